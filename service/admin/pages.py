"""The addresses of rows in the admin site."""

from typing import Any

# By the kind of a row in the audit log
_TABLES = {
    "user": "users", "character": "characters", "template": "templates", "relationship": "relationships",
    "operator": "piccolo_user",
}  # fmt: skip


def row_page(table: str, row: Any) -> str:
    return f"#/{table}/{row}/"


def page_of(kind: str, row: Any) -> str | None:
    """Of a row as the audit log names it; None if it has no page."""
    table = _TABLES.get(kind)
    return row_page(table, row) if table and row else None
