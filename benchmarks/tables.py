"""Formats results as Markdown."""

import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with text in the first column and figures in the others."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def where() -> str:
    """The date, the machine and the versions of a measurement."""
    parts = [f"{name} {version(name)}" for name in ("litestar", "piccolo", "asyncpg", "uvicorn")]
    return f"{date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(parts)}"
