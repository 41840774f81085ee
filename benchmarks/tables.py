"""Results, as Markdown for the README."""

import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def where() -> str:
    """When and on what it was measured."""
    parts = [f"{name} {version(name)}" for name in ("litestar", "piccolo", "asyncpg", "uvicorn")]
    return f"{date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(parts)}"
