"""The Home of the admin site: counts with links to their rows, the state of the service, and the last audit entries.

A script shows them below the welcome of Piccolo Admin, which has no page of its own for this.
"""

from typing import Any

from piccolo.querystring import QueryString
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.admin.additions import add_script, api_of
from service.admin.names import Name, Names, find_names
from service.admin.pages import row_page
from service.audit.actions import label_of
from service.database.prepared import Param, Prepared
from service.health.checks import check_together
from service.identifiers import DAY, first_id_since

MOST_COUNTED = 20_000  # rows of a table; a larger one is estimated
_ENTRIES = 10

# By the name of a count: its list, with a filter that shows the rows that are counted; their table and condition, for
# which there is an index. Ids have the time of their creation.
_COUNTED = {
    "Members": ("#/users/", "users", "true"),
    "Members since yesterday": ("#/users/?id={since}&id__operator=gte", "users", "id >= {}"),
    "Suspended members": (
        "#/users/?status=suspended&deleted_at__operator=is_null",
        "users",
        "status = 'suspended' AND deleted_at IS NULL",
    ),
    "Deleted accounts": ("#/users/?deleted_at__operator=not_null", "users", "deleted_at IS NOT NULL"),
    "Characters": ("#/characters/", "characters", "true"),
    "Characters since yesterday": ("#/characters/?id={since}&id__operator=gte", "characters", "id >= {}"),
    "Trash": (
        "#/characters/?deleted_at__operator=not_null&ended=false",
        "characters",
        "deleted_at IS NOT NULL AND NOT ended",
    ),
    "Messages that wait": ("#/outbox/", "outbox", "true"),
}


def _counts_of() -> QueryString:
    parts, params = [], []
    for name, (_, table, condition) in _COUNTED.items():
        found = f"(SELECT FROM {table} WHERE {condition} LIMIT {{}}) AS found"
        parts.append(f'(SELECT count(*) FROM {found}) AS "{name}"')  # noqa: S608 (our own names)
        params += [*([Param("since")] if "{}" in condition else []), Param("most")]
    return QueryString(f"SELECT {', '.join(parts)}", *params)


_COUNTS = Prepared(_counts_of)
# What PostgreSQL knows of a table
_ESTIMATE = Prepared(lambda: QueryString("SELECT reltuples FROM pg_class WHERE oid = {}::regclass", Param("table")))
_LAST = Prepared(
    lambda: QueryString(
        "SELECT id::text, to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS at, action, kind, \"row\","
        " member::text, operator, (SELECT id::text FROM piccolo_user WHERE username = operator) AS operator_id,"
        " address IS NULL AS is_command, detail ->> 'reason' AS reason, detail ->> 'version' AS version"
        " FROM audit_log ORDER BY id DESC LIMIT {}",
        Param("limit"),
    )
)


def add_home(site: Any) -> None:
    """Adds a route for the script, and one for what it shows below /api, which needs an operator's session."""
    api_of(site).router.routes.insert(0, Route("/home", _get_home))
    add_script(site, "home.js")


async def _get_home(_: Request) -> Response:
    return JSONResponse({"counts": await _counts(), "state": await _state(), "entries": await _entries()})


async def _counts() -> list[dict[str, str]]:
    since = first_id_since(DAY)
    found = await _COUNTS.one(since=since, most=MOST_COUNTED + 1)
    return [
        {"name": name, "count": await _count_text(found[name], table, condition), "link": link.format(since=since)}
        for name, (link, table, condition) in _COUNTED.items()
    ]


async def _count_text(count: int, table: str, condition: str) -> str:
    if count <= MOST_COUNTED:
        return f"{count:,}"
    if condition != "true":
        return f"more than {MOST_COUNTED:,}"
    return f"about {max(await _ESTIMATE.value(table=table), MOST_COUNTED):,.0f}"


async def _state() -> list[dict[str, str]]:
    return [{"name": name, "state": state} for name, state in (await check_together()).items()]


async def _entries() -> list[dict[str, Any]]:
    rows = await _LAST.all(limit=_ENTRIES)
    ids = {row[column] for row in rows for column in ("row", "member", "operator_id", "version")}
    names = await find_names([each for each in ids if each])
    return [
        {
            "at": row["at"],
            "who": _who(row, names),
            "action": {"name": label_of(row["action"]), "link": row_page("audit_log", row["id"])},
            "row": _row(row, names),
            "reason": row["reason"],
        }
        for row in rows
    ]


def _who(row: Any, names: Names) -> Name:
    if row["operator"]:
        return names.get(row["operator_id"]) or {"name": row["operator"]}
    if row["member"]:
        return names.get(row["member"]) or {"name": row["member"]}
    return {"name": "A command" if row["is_command"] else "Somebody unknown"}


def _row(row: Any, names: Names) -> Name | None:
    """None if it is who did it."""
    if row["row"] in (None, row["member"], row["operator_id"]):
        return None
    found = names.get(row["row"]) or {"name": f"{row['kind'].replace('_', ' ')} {row['row']}"}
    if version := names.get(row["version"]):
        return version | {"name": f"{version['name']} of {found['name']}"}
    return found
