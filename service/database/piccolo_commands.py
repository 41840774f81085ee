"""Piccolo's own commands on this database: what they need to work, or a line that says what to do."""

import importlib.util
import sys
from typing import Any

from piccolo.apps.migrations.commands import backwards


def complete_commands() -> None:
    """Changes Piccolo's commands in this process. ``migrations backwards`` means ``backwards service``: it undoes the
    newest migration. ``schema generate`` lists the indexes that Piccolo has no method for, instead of failing."""
    backwards.backwards.__defaults__ = ("service", "1", False, False, False)
    if generate := sys.modules.get("piccolo.apps.schema.commands.generate"):  # only the command `piccolo` imports it
        generate.Index = _index_of(generate.Index)  # type: ignore[attr-defined] # a module
    if playground := sys.modules.get("piccolo.apps.playground.commands.run"):
        playground.SQLiteEngine = _sqlite_of(playground.SQLiteEngine)  # type: ignore[attr-defined] # a module


def _index_of(parsed: Any) -> Any:
    class Index(parsed):  # type: ignore[misc] # Piccolo's class
        def __post_init__(self) -> None:
            try:
                super().__post_init__()
            except KeyError:  # BRIN
                self.column_name = self.unique = self.method = None
                self.warnings = [f"{self.indexdef};"]

    return Index


def _sqlite_of(engine: Any) -> Any:
    def sqlite() -> Any:
        if importlib.util.find_spec("aiosqlite") is None:
            raise SystemExit(
                "The playground needs SQLite: install it with `.venv/bin/python -m pip install 'piccolo[sqlite]'`,"
                " or try this service's tables with `piccolo shell run`."
            )
        return engine()

    return sqlite
