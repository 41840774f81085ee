from collections.abc import Awaitable, Mapping
from typing import Any
from uuid import UUID

from litestar import Controller, Request
from litestar.params import FromPath, JSONBody

from service.callers import Caller
from service.characters import queries
from service.characters.schemas import (
    CharacterCreate,
    CharacterQuery,
    CharacterRead,
    CharacterSummary,
    CharacterUpdate,
    ExpandedTemplate,
)
from service.errors import Violation
from service.lists.pages import page
from service.schemas import FieldsQuery, Page
from service.users.schemas import Profile
from service.web.guards import CurrentUser, requires
from service.web.query import read_query
from service.web.requests import IfMatch
from service.web.responses import Rendered, resource
from service.web.routes import delete, get, patch, post

Asked = Request[Caller, Any, Any]  # whose user is at hand: as an argument, it costs what a tenth of the rest does

READ, WRITE = requires("characters:read"), requires("characters:write")
EXPANDED = {"owner": Profile, "template": ExpandedTemplate}


def _into_new(request: Request[Any, Any, Any], sound: Mapping[str, Any]) -> Awaitable[list[Violation]]:
    return queries.look_further_into_new(request.user, sound)


def _into_changes(request: Request[Any, Any, Any], sound: Mapping[str, Any]) -> Awaitable[list[Violation]]:
    return queries.look_further_into_changes(request.user, request.path_params["character_id"], sound)


class CharacterController(Controller):
    path = "/characters"
    tags = ("Characters",)

    @post("/", guards=[WRITE], dry_run=True, idempotent=True, look_further=_into_new)
    async def create_character(self, user: CurrentUser, data: JSONBody[CharacterCreate]) -> Rendered[CharacterRead]:
        """Make a character, checked against its template."""
        row = await queries.create_character(user, data)
        return resource(row, created_at=f"/v1/characters/{row['id']}")

    @get(
        "/",
        public=True,
        guards=[READ],
        query=CharacterQuery,
        listing=queries.CHARACTERS,
        whole=CharacterRead,
        expanded=EXPANDED,
    )
    async def list_characters(self, request: Asked) -> Rendered[Page[CharacterSummary]]:
        """Your own characters and everyone's public ones, newest first or by relevance."""
        query = read_query(request, CharacterQuery)
        return page(request, await queries.list_characters(request.user, query), query.limit)

    @get(
        "/{character_id:uuid}",
        public=True,
        guards=[READ],
        query=FieldsQuery,
        listing=queries.CHARACTERS,
        expanded=EXPANDED,
    )
    async def get_character(self, request: Asked, character_id: FromPath[UUID]) -> Rendered[CharacterRead]:
        """A character. It has an ETag unless `fields` or `expand` shape it."""
        query = read_query(request, FieldsQuery)
        row = await queries.get_character(request.user, character_id, query)
        return resource(row) if query == FieldsQuery() else Rendered(row["item"])

    @patch("/{character_id:uuid}", guards=[WRITE], dry_run=True, look_further=_into_changes)
    async def update_character(
        self, user: CurrentUser, character_id: FromPath[UUID], data: JSONBody[CharacterUpdate], if_match: IfMatch = None
    ) -> Rendered[CharacterRead]:
        """Change a character; what is not sent stays."""
        return resource(await queries.update_character(user, character_id, data, if_match))

    @delete("/{character_id:uuid}", guards=[WRITE], dry_run=True)
    async def delete_character(self, user: CurrentUser, character_id: FromPath[UUID], if_match: IfMatch = None) -> None:
        """Put a character into the trash."""
        await queries.delete_character(user, character_id, if_match)
