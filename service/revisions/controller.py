from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Controller, Request
from litestar.params import FromPath, PathParameter, QueryParameter

from service.characters.schemas import CharacterRead
from service.lists.pages import page
from service.revisions import queries
from service.revisions.schemas import RevisionDifferences, RevisionRead, RevisionSummary
from service.schemas import Page, PageQuery
from service.web.guards import CurrentUser, requires
from service.web.query import read_query
from service.web.requests import IfMatch
from service.web.responses import Rendered, resource
from service.web.routes import get, post

READ, WRITE = requires("characters:read"), requires("characters:write")

Number = Annotated[int, PathParameter(ge=1, le=2**31 - 1)]
Against = Annotated[
    int | None, QueryParameter(name="against", ge=1, le=2**31 - 1, description="The one before, unless told.")
]


class RevisionController(Controller):
    path = "/characters/{character_id:uuid}/revisions"
    tags = ("Revisions",)

    @get("/", guards=[READ], query=PageQuery)
    async def list_revisions(
        self, request: Request[Any, Any, Any], user: CurrentUser, character_id: FromPath[UUID]
    ) -> Rendered[Page[RevisionSummary]]:
        """The history of your character, newest first."""
        query = read_query(request, PageQuery)
        return page(request, await queries.list_revisions(user, character_id, query), query.limit)

    @get("/{number:int}", guards=[READ])
    async def get_revision(
        self, user: CurrentUser, character_id: FromPath[UUID], number: Number
    ) -> Rendered[RevisionRead]:
        """Your character as it was right after a change."""
        return Rendered(msgspec.json.encode(await queries.get_revision(user, character_id, number)))

    @get("/{number:int}/changes", guards=[READ])
    async def compare_revisions(
        self, user: CurrentUser, character_id: FromPath[UUID], number: Number, against: Against = None
    ) -> RevisionDifferences:
        """How a revision differs from another."""
        return await queries.compare_revisions(user, character_id, against or max(1, number - 1), number)

    @post("/{number:int}/restorations", guards=[WRITE], dry_run=True)
    async def restore_revision(
        self, user: CurrentUser, character_id: FromPath[UUID], number: Number, if_match: IfMatch = None
    ) -> Rendered[CharacterRead]:
        """Make your character what it was: a new revision, so nothing is lost."""
        row = await queries.restore_revision(user, character_id, number, if_match)
        return resource(row, created_at=f"/v1/characters/{character_id}")
