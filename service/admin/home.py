"""The Home of the admin site: counts with links to their rows, the state of the service, and the last audit entries.

A script shows them below the welcome of Piccolo Admin, which has no page of its own for this.
"""

from typing import Any

from piccolo.querystring import QueryString
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.admin.additions import add_script, api_of
from service.audit.actions import label_of
from service.database.prepared import Param, Prepared
from service.health.checks import check_together
from service.mail.outbox import waiting_messages

MOST_COUNTED = 20_000  # rows of a table; a larger one is estimated, and its parts are not counted
_ENTRIES = 10

# Of each table the rows, an estimate of them, and how many meet each condition
_COUNTS = Prepared(
    lambda: QueryString(
        "SELECT 'users' AS name, count(*) AS rows,"
        " (SELECT reltuples FROM pg_class WHERE oid = 'users'::regclass) AS about,"
        " count(*) FILTER (WHERE created_at > now() - interval '1 day') AS new,"
        " count(*) FILTER (WHERE status = 'suspended' AND deleted_at IS NULL) AS suspended,"
        " count(*) FILTER (WHERE deleted_at IS NOT NULL) AS closed"
        " FROM (SELECT status, deleted_at, created_at FROM users LIMIT {}) AS users"
        " UNION ALL "
        "SELECT 'characters', count(*), (SELECT reltuples FROM pg_class WHERE oid = 'characters'::regclass),"
        " count(*) FILTER (WHERE created_at > now() - interval '1 day'), 0,"
        " count(*) FILTER (WHERE deleted_at IS NOT NULL AND NOT ended)"
        " FROM (SELECT deleted_at, ended, created_at FROM characters LIMIT {}) AS characters",
        Param("most"),
        Param("most"),
    )
)
_LAST = Prepared(
    lambda: QueryString(
        "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS at, action, kind, \"row\","
        " coalesce(operator, (SELECT username FROM users WHERE id = member), CASE WHEN address IS NULL"
        " THEN 'A command' ELSE 'Somebody unknown' END) AS who, detail ->> 'reason' AS reason"
        " FROM audit_log ORDER BY id DESC LIMIT {}",
        Param("limit"),
    )
)
_ROWS = {
    "user": "users", "character": "characters", "template": "templates", "relationship": "relationships",
    "operator": "piccolo_user",
}  # fmt: skip


def add_home(site: Any) -> None:
    """Adds a route for the script, and one for what it shows below /api, which needs an operator's session."""
    api_of(site).router.routes.insert(0, Route("/home", _get_home))
    add_script(site, "home.js")


async def _get_home(_: Request) -> Response:
    return JSONResponse({"counts": await _counts(), "state": await _state(), "entries": await _entries()})


async def _counts() -> list[dict[str, str]]:
    found = {row["name"]: row for row in await _COUNTS.all(most=MOST_COUNTED)}
    users, characters = found["users"], found["characters"]
    waiting = await waiting_messages()
    return [
        _count("Members", _total(users), "#/users/"),
        _count("Members since yesterday", _part(users, "new"), "#/users/"),
        _count("Suspended members", _part(users, "suspended"), "#/users/?status=suspended"),
        _count("Deleted accounts", _part(users, "closed"), "#/users/?deleted_at__operator=not_null"),
        _count("Characters", _total(characters), "#/characters/"),
        _count("Characters since yesterday", _part(characters, "new"), "#/characters/"),
        _count("Trash", _part(characters, "closed"), "#/characters/?deleted_at__operator=not_null&ended=false"),
        _count("Messages that wait", f"{waiting.messages:,}", "#/outbox/"),
    ]


def _count(name: str, count: str, link: str) -> dict[str, str]:
    return {"name": name, "count": count, "link": link}


def _total(row: Any) -> str:
    return f"{row['rows']:,}" if row["rows"] < MOST_COUNTED else f"about {max(row['about'], MOST_COUNTED):,.0f}"


def _part(row: Any, name: str) -> str:
    return f"{row[name]:,}" if row["rows"] < MOST_COUNTED else "not counted"


async def _state() -> list[dict[str, str]]:
    return [{"name": name, "state": state} for name, state in (await check_together()).items()]


async def _entries() -> list[dict[str, str | None]]:
    entries = []
    for row in await _LAST.all(limit=_ENTRIES):
        table = _ROWS.get(row["kind"])
        link = f"#/{table}/{row['row']}/" if table and row["row"] else None
        shown = {name: row[name] for name in ("at", "who", "kind", "reason")} | {"action": label_of(row["action"])}
        entries.append(shown | {"link": link})
    return entries
