"""Offers an operator the forms of their role, and on the page of a row only those that apply to its state.

``check_role`` refuses the others, and the forms themselves say in which state a row is, however they are sent.
"""

from contextlib import suppress
from typing import Any
from uuid import UUID

from piccolo.querystring import QueryString
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.admin.additions import api_of
from service.admin.roles import get_role, may_use
from service.database.prepared import Param, Prepared

_OPEN = "deleted_at IS NULL"
_PLATFORMS = "EXISTS (SELECT FROM templates WHERE id = template AND owner IS NULL)"
# By table, and by the last part of the address of a form about its rows: the state that the form needs
APPLIES: dict[str, dict[str, str]] = {
    "users": {
        "suspend-a-member": f"{_OPEN} AND status = 'active'",
        "reactivate-a-member": f"{_OPEN} AND status = 'suspended'",
        "end-sessions-and-keys": _OPEN,
        "resend-verification": f"{_OPEN} AND status = 'active' AND email IS NOT NULL AND email_verified_at IS NULL",
        "delete-an-account": _OPEN,
        "export-an-account": _OPEN,
        "import-a-card": _OPEN,
    },
    "characters": {
        "edit-a-character": _OPEN,
        "hide-a-character": f"{_OPEN} AND visibility <> 'private'",
        "delete-a-character": _OPEN,
        "restore-a-character": "deleted_at IS NOT NULL AND NOT ended",
        "delete-a-character-for-good": "deleted_at IS NOT NULL AND NOT ended",
        "add-a-relationship": _OPEN,
    },
    "relationships": dict.fromkeys(
        ("edit-a-relationship", "remove-a-relationship"),
        "NOT EXISTS (SELECT FROM characters WHERE id IN (source, target) AND deleted_at IS NOT NULL)",
    ),
    "templates": {
        "edit-a-template": "owner IS NULL",
        "retire-a-template": "owner IS NULL AND retired_at IS NULL",
        "hide-a-template": "owner IS NOT NULL AND visibility <> 'private'",
        "new-template-version": "owner IS NULL AND retired_at IS NULL",
    },
    "template_versions": {
        "new-template-version": "EXISTS (SELECT FROM templates WHERE id = template AND owner IS NULL"
        " AND retired_at IS NULL)",
        "publish-a-version": f"published_at IS NULL AND {_PLATFORMS}",
        "deprecate-a-version": "published_at IS NOT NULL AND deprecated_at IS NULL AND EXISTS (SELECT FROM"
        " template_versions AS other WHERE other.template = shown.template AND other.id <> shown.id"
        f" AND other.published_at IS NOT NULL AND other.deprecated_at IS NULL) AND {_PLATFORMS}",
    },
}


def _states_of(table: str) -> Prepared:
    states = ", ".join(f'({state}) AS "{form}"' for form, state in APPLIES[table].items())
    query = f"SELECT {states} FROM {table} AS shown WHERE id = {{}}"  # noqa: S608 (our own names)
    return Prepared(lambda: QueryString(query, Param("id")))


_STATES = {table: _states_of(table) for table in APPLIES}


def offer_forms_of_role(site: Any) -> None:
    """Replaces Piccolo Admin's two lists of forms, of which the sidebar is made, and adds one for the page of a row."""

    async def get_forms(request: Request) -> Response:
        role = await get_role(request.user.user_id)
        return JSONResponse([form.model_dump() for form in site.get_forms() if may_use(role, form.slug)])

    async def get_grouped_forms(request: Request) -> Response:
        role = await get_role(request.user.user_id)
        grouped = {
            group: [form.model_dump() for form in forms if may_use(role, form.slug)]
            for group, forms in site.get_grouped_forms().grouped.items()
        }
        return JSONResponse({"grouped": {group: forms for group, forms in grouped.items() if forms}, "ungrouped": []})

    routes = [
        Route("/forms/", get_forms),
        Route("/forms/grouped/", get_grouped_forms),
        Route("/forms/of/{table}/{row}/", _get_forms_of_row),
    ]
    api_of(site).router.routes[:0] = routes


async def _get_forms_of_row(request: Request) -> Response:
    """The last parts of the addresses of the forms that the role may use and that apply to the row."""
    row, states = None, _STATES.get(request.path_params["table"])
    with suppress(ValueError):  # an id of another form
        row = await states.one(id=UUID(request.path_params["row"])) if states else None
    role = await get_role(request.user.user_id)
    return JSONResponse([form for form, applies in dict(row or {}).items() if applies and may_use(role, form)])
