"""Names and states of rows by their ids: a script shows them in lists, where Piccolo Admin shows an id, or a row of a
deleted account as any other."""

import re
from collections.abc import Collection
from uuid import UUID

from piccolo.querystring import QueryString
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.admin.pages import row_page
from service.database.prepared import Param, Prepared

MOST_IDS = 50  # of a request; the script sends several
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NUMBER = re.compile("[0-9]{1,9}")  # of operators

Name = dict[str, str | None]  # the name and, if there are, the state of a row and the address of its page
Names = dict[str, Name]  # by id

# By table: the name and the state of a row. The state is NULL when there is nothing to mark.
_SHOWN = {
    "users": (
        "username",
        "CASE WHEN deleted_at IS NOT NULL THEN 'deleted' WHEN status = 'suspended' THEN 'suspended' END",
    ),
    "characters": (
        "coalesce(nullif(name, ''), id::text)",  # one that was deleted for good has no name
        "CASE WHEN ended THEN 'purged' WHEN deleted_at IS NOT NULL THEN 'in the trash'"
        " WHEN owner_inactive THEN 'owner inactive' END",
    ),
    "templates": (
        "name",
        "CASE WHEN retired_at IS NOT NULL THEN 'retired' WHEN owner_inactive THEN 'owner inactive' END",
    ),
    "template_versions": (
        "'Version ' || number",
        "CASE WHEN published_at IS NULL THEN 'draft' WHEN deprecated_at IS NOT NULL THEN 'deprecated' END",
    ),
    "relationships": (
        "(SELECT name FROM characters WHERE characters.id = source) || ' ' || replace(type, '_', ' ') || ' '"
        " || (SELECT name FROM characters WHERE characters.id = target)",
        "NULL",
    ),
    "tokens": ("CASE kind WHEN 'key' THEN 'API key ' || name ELSE 'session' END", "NULL"),
}


def _names() -> QueryString:
    rows = [
        f"SELECT id::text, '{table}' AS place, {name} AS name, {state} AS state"  # noqa: S608 (our own names)
        f" FROM {table} WHERE id = ANY({{}}::uuid[])"
        for table, (name, state) in _SHOWN.items()
    ]
    operators = (
        "SELECT id::text, 'piccolo_user', username, CASE WHEN active THEN NULL ELSE 'disabled' END"
        " FROM piccolo_user WHERE id = ANY({}::int[])"
    )
    return QueryString(" UNION ALL ".join([*rows, operators]), *[Param("ids")] * len(rows), Param("numbers"))


_NAMES = Prepared(_names)


async def get_names(request: Request) -> Response:
    """By each id of ``ids`` that a row has: its name, its state and the address of its page."""
    ids = request.query_params.get("ids", "").split(",")
    if len(ids) > MOST_IDS:
        return JSONResponse({"detail": f"At most {MOST_IDS} ids."}, 400)
    return JSONResponse(await find_names(ids))


async def find_names(ids: Collection[str]) -> Names:
    rows = await _NAMES.all(
        ids=[UUID(each) for each in ids if _UUID.fullmatch(each)],
        numbers=[int(each) for each in ids if _NUMBER.fullmatch(each)],
    )
    return {
        row["id"]: {"name": row["name"], "state": row["state"], "link": row_page(row["place"], row["id"])}
        for row in rows
    }
