"""Details of operators, and of what the audit log has of them and of members."""

from typing import Any
from urllib.parse import quote
from uuid import UUID

import msgspec

from service.admin.sections import Cell, Section, links, shown_value, time_text
from service.audit.actions import label_of
from service.database.prepared import Prepared, text_query

_ENTRY = Prepared(
    lambda: text_query(
        'SELECT created_at, action, kind, "row", member, owner, operator, address, detail FROM audit_log WHERE id = {}',
        "id",
    )
)
_OPERATOR = Prepared(
    lambda: text_query(
        "SELECT username, nullif(email, username) AS email, active AND admin AS may_sign_in,"
        " coalesce(role, 'administrator') AS role, last_login,"
        " coalesce((SELECT CASE WHEN active THEN 'active' ELSE 'not active yet' END FROM operator_second_factors"
        "  WHERE user_id = piccolo_user.id), 'none') AS second_factor"
        " FROM piccolo_user LEFT JOIN operator_roles ON user_id = piccolo_user.id WHERE piccolo_user.id = {}",
        "id",
    )
)


async def about_operator(operator_id: int) -> list[Section]:
    row = await _OPERATOR.one(id=operator_id)
    if row is None:
        return []
    rows: list[list[Cell]] = [
        ["E-mail address", row["email"] or "none"],
        ["Role", row["role"]],
        ["State", "active" if row["may_sign_in"] else "disabled"],
        ["Second factor", row["second_factor"]],
        ["Last sign-in", time_text(row["last_login"], "never")],
    ]
    more = links(
        "More",
        What_they_did=f"audit_log/?operator={quote(row['username'], safe='')}",
        Entries_about_the_account=f"audit_log/?row={operator_id}&row__match=exact",
    )
    return [{"title": "Operator", "rows": rows}, more]


async def about_entry(entry_id: UUID) -> list[Section]:
    row = await _ENTRY.one(id=entry_id)
    if row is None:
        return []
    by: Cell = row["operator"] or ("A command" if row["address"] is None else "Somebody unknown")
    if row["member"]:
        by = {"id": str(row["member"]), "text": str(row["member"])}
    detail: dict[str, Any] = msgspec.json.decode(row["detail"])
    rows: list[list[Cell]] = [
        ["Time", time_text(row["created_at"])],
        ["Action", label_of(row["action"])],
        [row["kind"].capitalize().replace("_", " "), {"id": row["row"] or "", "text": row["row"] or "—"}],
        ["By", by],
    ]
    if row["owner"] and row["kind"] != "user":
        rows.append(["Owner", {"id": str(row["owner"]), "text": str(row["owner"])}])
    rows += [[name.capitalize(), _named_row(value) or shown_value(value)] for name, value in detail.items()]
    return [{"title": "Entry", "rows": rows}]


def _named_row(value: Any) -> Cell | None:
    """Of an id, a cell that gets the name of the row."""
    try:
        return {"id": str(UUID(value)), "text": value}
    except (AttributeError, TypeError, ValueError):
        return None
