"""Piccolo's own commands on this database: what they need to work, or a line that says what to do."""

import asyncio
import importlib.util
import inspect
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from piccolo.apps.migrations.commands import backwards

from service.errors import Unavailable
from service.log import set_up_logging
from service.settings import asks_for_help, settings


def complete_commands() -> None:
    """Changes Piccolo's commands in this process. ``migrations backwards`` means ``backwards service``: it undoes the
    newest migration. ``schema generate`` lists the indexes that Piccolo has no method for, instead of failing. The
    service's own commands, and all help, are without Piccolo's look at the migrations: it needs the database, and its
    advice would be wrong before a restore."""
    if main := sys.modules.get("piccolo.main"):  # only the command `piccolo` imports it
        set_up_logging(settings, of_command=True)
        if sys.argv[1:2] == ["service"] or asks_for_help():
            main.CheckMigrationManager = _NoMigrations  # type: ignore[attr-defined] # a module
        if asks_for_help():
            _complete_help()
    backwards.backwards.__defaults__ = ("service", "1", False, False, False)
    if generate := sys.modules.get("piccolo.apps.schema.commands.generate"):  # only the command `piccolo` imports it
        generate.Index = _index_of(generate.Index)  # type: ignore[attr-defined] # a module
    if playground := sys.modules.get("piccolo.apps.playground.commands.run"):
        playground.SQLiteEngine = _sqlite_of(playground.SQLiteEngine)  # type: ignore[attr-defined] # a module


def in_one_line(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, which ends with one line when the database or the storage refuses or goes away."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            if inspect.iscoroutine(work := command(*args, **kwargs)):
                asyncio.run(work)
        except Unavailable as error:
            raise SystemExit(f"{str(error).rstrip('.')}: {error.__cause__ or 'try again later'}") from None

    run.__signature__ = inspect.signature(command)  # type: ignore[attr-defined] # where targ reads the arguments
    return run


class _NoMigrations:
    def __init__(self, **_: Any) -> None:
        pass

    async def havent_ran_count(self) -> int:
        return 0


def _complete_help() -> None:
    """Piccolo knows ``piccolo GROUP COMMAND --help``, but neither ``-h`` nor a group or nothing before it. All of them
    list the commands, as ``piccolo`` alone does."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    sys.argv[1:] = [*words, "--help"] if len(words) > 1 else []


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
