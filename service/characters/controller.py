from collections.abc import Awaitable, Mapping
from typing import Any
from uuid import UUID

from litestar import Controller, Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody

from service.characters import queries
from service.characters.schemas import (
    CharacterCreate,
    CharacterFields,
    CharacterQuery,
    CharacterRead,
    CharacterSummary,
    CharacterUpdate,
)
from service.characters.store import check_own
from service.errors import Violation
from service.lists.pages import page
from service.schemas import Page
from service.web.guards import READ_CHARACTERS, WRITE_CHARACTERS, CurrentUser, check_scope
from service.web.middleware.rate_limit import Cost, Parameters, list_cost
from service.web.openapi_content import QUOTA
from service.web.requests import IfMatch, StrictRequest, check_of
from service.web.responses import Rendered, resource
from service.web.routes import delete, get, patch, post


def _into_new(request: Request[Any, Any, Any], sound: Mapping[str, Any]) -> Awaitable[list[Violation]]:
    return queries.look_further_into_new(request.user, sound)


def _into_changes(request: Request[Any, Any, Any], sound: Mapping[str, Any]) -> Awaitable[list[Violation]]:
    return queries.look_further_into_changes(request.user, request.path_params["character_id"], sound)


def _current(request: Request[Any, Any, Any]) -> Awaitable[Any]:
    return queries.get_character(request.user, request.path_params["character_id"])


_LARGE_FIELDS = frozenset({"description", "prompt", "attributes", "extensions"})  # which summaries lack


def _list_cost(parameters: Parameters) -> int:
    fields = {name.strip(' "') for name in ",".join(parameters.getall("fields", [])).split(",")}
    return list_cost(parameters) + bool(fields & _LARGE_FIELDS)


async def _may_expand(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """An API key that may not read templates may not expand them, either."""
    if isinstance(connection, StrictRequest) and "template" in (connection.parameters.expand or ()):
        check_scope(connection.user, "templates:read")


class CharacterController(Controller):
    path = "/characters"
    tags = ("Characters",)

    @post("/", guards=[WRITE_CHARACTERS], dry_run=True, idempotent=True, responses=QUOTA, look_further=_into_new)
    async def create_character(self, user: CurrentUser, data: JSONBody[CharacterCreate]) -> Rendered[CharacterRead]:
        """Create a character.

        Its attributes must satisfy the schema of its template.
        """
        row = await queries.create_character(user, data)
        return resource(row, created_at=f"/v1/characters/{row['id']}")

    @get("/", public=True, guards=[READ_CHARACTERS, _may_expand], middleware=[Cost(_list_cost)])
    async def list_characters(self, request: StrictRequest[CharacterQuery]) -> Rendered[Page[CharacterSummary]]:
        """List your own characters and the public ones of all users.

        The newest come first, or with `q` the most relevant. A character must match every filter.
        `attributes.<name>=<value>` filters by an attribute; `.ne`, `.lt`, `.lte`, `.gt`, `.gte`, `.in`, `.contains` and
        `.exists` after the name compare in other ways, as in `attributes.strength.gte=12`. Dots lead into nested
        values, as in `attributes.stats.strength.gte=12`; a name with a dot is quoted. A value in quotes is text; any
        other value matches text, number and boolean alike.
        """
        query = request.parameters
        return page(request, await queries.list_characters(request.user, query), query.limit)

    @get("/{character_id:uuid}", public=True, guards=[READ_CHARACTERS, _may_expand])
    async def get_character(
        self, request: StrictRequest[CharacterFields], character_id: FromPath[UUID]
    ) -> Rendered[CharacterRead]:
        """Get a character.

        With `fields` or `expand` the response has no ETag. For `expand=template`, an API key also needs the scope
        `templates:read`.
        """
        query = request.parameters
        row = await queries.get_character(request.user, character_id, query)
        return resource(row) if query == CharacterFields() else Rendered(row["item"])

    @patch(
        "/{character_id:uuid}",
        guards=[WRITE_CHARACTERS],
        dry_run=True,
        look_further=_into_changes,
        current=_current,
        check_caller=check_of(check_own, "character_id"),
    )
    async def update_character(
        self, user: CurrentUser, character_id: FromPath[UUID], data: JSONBody[CharacterUpdate], if_match: IfMatch = None
    ) -> Rendered[CharacterRead]:
        """Update a character.

        Fields that are not sent keep their values. A character that was read can be sent back: read-only fields are
        ignored if they have not changed.
        """
        return resource(await queries.update_character(user, character_id, data, if_match))

    @delete("/{character_id:uuid}", guards=[WRITE_CHARACTERS], dry_run=True)
    async def delete_character(self, user: CurrentUser, character_id: FromPath[UUID], if_match: IfMatch = None) -> None:
        """Move a character to the trash."""
        await queries.delete_character(user, character_id, if_match)
