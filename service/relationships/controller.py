from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request
from litestar.params import FromPath, JSONBody, QueryParameter

from service.lists.pages import page
from service.relationships import queries
from service.relationships.schemas import (
    RelationshipCreate,
    RelationshipQuery,
    RelationshipRead,
    RelationshipTypeRead,
    RelationshipUpdate,
)
from service.relationships.types import TYPES
from service.schemas import Collection, Page
from service.web.guards import CurrentUser, requires
from service.web.query import read_query
from service.web.requests import IfMatch
from service.web.responses import Rendered, resource
from service.web.routes import delete, get, patch, post

READ, WRITE = requires("characters:read"), requires("characters:write")

Side = Annotated[
    UUID | None,
    QueryParameter(name="from", description="The end it is read from; the source when neither is named."),
]


class RelationshipController(Controller):
    tags = ("Relationships",)

    @get("/relationship-types", public=True)
    async def list_relationship_types(self) -> Collection[RelationshipTypeRead]:
        """What one character can be of another."""
        return Collection(
            items=[
                RelationshipTypeRead(
                    name=name,
                    inverse=kind.name if from_target else kind.inverse,
                    symmetric=kind.symmetric,
                    category=kind.category,
                )
                for name, (kind, from_target) in sorted(TYPES.items())
            ]
        )

    @post("/characters/{character_id:uuid}/relationships", guards=[WRITE], dry_run=True, idempotent=True)
    async def create_relationship(
        self, user: CurrentUser, character_id: FromPath[UUID], data: JSONBody[RelationshipCreate]
    ) -> Rendered[RelationshipRead]:
        """Relate two of your characters: this one is `type` of `target`."""
        row = await queries.create_relationship(user, character_id, data)
        return resource(row, created_at=f"/v1/relationships/{row['id']}?from={character_id}")

    @get(
        "/characters/{character_id:uuid}/relationships",
        public=True,
        guards=[READ],
        query=RelationshipQuery,
        listing=queries.RELATIONSHIPS,
    )
    async def list_relationships(
        self, request: Request[Any, Any, Any], user: CurrentUser, character_id: FromPath[UUID]
    ) -> Rendered[Page[RelationshipRead]]:
        """A character's relationships, from whichever side they were made, read from its own."""
        query = read_query(request, RelationshipQuery)
        return page(request, await queries.list_relationships(user, character_id, query), query.limit)

    @get("/relationships/{relationship_id:uuid}", public=True, guards=[READ])
    async def get_relationship(
        self, user: CurrentUser, relationship_id: FromPath[UUID], side: Side = None
    ) -> Rendered[RelationshipRead]:
        """A relationship."""
        return resource(await queries.get_relationship(user, relationship_id, side))

    @patch("/relationships/{relationship_id:uuid}", guards=[WRITE], dry_run=True)
    async def update_relationship(
        self,
        user: CurrentUser,
        relationship_id: FromPath[UUID],
        data: JSONBody[RelationshipUpdate],
        side: Side = None,
        if_match: IfMatch = None,
    ) -> Rendered[RelationshipRead]:
        """Change what is said and felt; the ends and the type stay."""
        return resource(await queries.update_relationship(user, relationship_id, side, data, if_match))

    @delete("/relationships/{relationship_id:uuid}", guards=[WRITE], dry_run=True)
    async def delete_relationship(
        self, user: CurrentUser, relationship_id: FromPath[UUID], if_match: IfMatch = None
    ) -> None:
        """End a relationship, for both sides."""
        await queries.delete_relationship(user, relationship_id, if_match)
