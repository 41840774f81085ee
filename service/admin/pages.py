"""The addresses of rows in the admin site."""

from typing import Any

# By the kind of a row in the audit log
_TABLES = {
    "user": "users", "character": "characters", "template": "templates", "relationship": "relationships",
    "operator": "piccolo_user",
}  # fmt: skip


def page_of(kind: str, row: Any) -> str | None:
    table = _TABLES.get(kind)
    return f"#/{table}/{row}/" if table and row else None
