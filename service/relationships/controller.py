from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec
from litestar import Controller
from litestar.params import FromPath, JSONBody

from service.errors import BadRequest, Violation
from service.lists.pages import page
from service.relationships import queries
from service.relationships.schemas import (
    RelationshipCreate,
    RelationshipQuery,
    RelationshipRead,
    RelationshipTypeRead,
    RelationshipUpdate,
    SideQuery,
    SideWriteQuery,
)
from service.relationships.types import CUSTOM, TYPES
from service.schemas import Collection, Page
from service.web.guards import READ_CHARACTERS, WRITE_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import Cost, list_cost
from service.web.openapi_content import QUOTA
from service.web.requests import IfMatch, StrictRequest, check_of
from service.web.responses import Rendered, resource
from service.web.routes import delete, get, patch, post


class _SentEnd(msgspec.Struct):
    id: UUID


class _SentRow(msgspec.Struct):
    source: _SentEnd | None = None


async def _side(request: Any) -> UUID | None:
    """The side that a change is made from: ``from``, or the source of a row that is sent back. Raises BadRequest if the
    two differ."""
    given: UUID | None = request.parameters.side
    sent = None
    with suppress(msgspec.DecodeError):
        sent = msgspec.json.decode(await request.body(), type=_SentRow).source
    if given and sent and given != sent.id:
        raise BadRequest.of([Violation("Must be the id of the body's source, or be left out.", parameter="from")])
    return given or (sent.id if sent else None)


async def _current(request: Any) -> Any:
    relationship_id, side = request.path_params["relationship_id"], await _side(request)
    try:
        return await queries.get_relationship(request.user, relationship_id, side)
    except BadRequest:
        if request.parameters.side is not None:
            raise
        return await queries.get_relationship(request.user, relationship_id, None)  # the body's source is refused later


class RelationshipController(Controller):
    tags = ("Relationships",)

    @get("/relationship-types", public=True)
    async def list_relationship_types(self) -> Collection[RelationshipTypeRead]:
        """List the relationship types."""
        return Collection(
            items=[
                RelationshipTypeRead(
                    name=name,
                    inverse=kind.name if from_target else kind.inverse,
                    symmetric=kind.symmetric and kind is not CUSTOM,
                    category=kind.category,
                )
                for name, (kind, from_target) in sorted(TYPES.items())
            ]
        )

    @post(
        "/characters/{character_id:uuid}/relationships",
        guards=[WRITE_CHARACTERS],
        dry_run=True,
        idempotent=True,
        responses=QUOTA,
        check_caller=check_of(queries.check_own_end, "character_id"),
    )
    async def create_relationship(
        self, user: CurrentUser, character_id: FromPath[UUID], data: JSONBody[RelationshipCreate]
    ) -> Rendered[RelationshipRead]:
        """Create a relationship between two of your characters.

        This character is the `type` of `target`.
        """
        row = await queries.create_relationship(user, character_id, data)
        return resource(row, created_at=f"/v1/relationships/{row['id']}")

    @get(
        "/characters/{character_id:uuid}/relationships",
        public=True,
        guards=[READ_CHARACTERS],
        middleware=[Cost(list_cost)],
    )
    async def list_relationships(
        self, request: StrictRequest[RelationshipQuery], user: CurrentUser, character_id: FromPath[UUID]
    ) -> Rendered[Page[RelationshipRead]]:
        """List a character's relationships, as read from its side."""
        query = request.parameters
        return page(request, await queries.list_relationships(user, character_id, query), query.limit)

    @get("/relationships/{relationship_id:uuid}", public=True, guards=[READ_CHARACTERS])
    async def get_relationship(
        self, request: StrictRequest[SideQuery], user: CurrentUser, relationship_id: FromPath[UUID]
    ) -> Rendered[RelationshipRead]:
        """Get a relationship."""
        return resource(await queries.get_relationship(user, relationship_id, request.parameters.side))

    @patch(
        "/relationships/{relationship_id:uuid}",
        guards=[WRITE_CHARACTERS],
        dry_run=True,
        current=_current,
        check_caller=check_of(queries.read_own, "relationship_id"),
    )
    async def update_relationship(
        self,
        request: StrictRequest[SideWriteQuery],
        user: CurrentUser,
        relationship_id: FromPath[UUID],
        data: JSONBody[RelationshipUpdate],
        if_match: IfMatch = None,
    ) -> Rendered[RelationshipRead]:
        """Update a relationship.

        The two characters and the type cannot change, but the labels of the type `custom` can. `attitude` and `label`
        are those of the character in `from`. Without `from`, they are those of the `source` in the body, if a row is
        sent back, and otherwise those of the character from which it was created. To change a row of a character's
        list, send that character's id as `from`, or the row's `source`.
        """
        side = await _side(request)
        return resource(await queries.update_relationship(user, relationship_id, side, data, if_match))

    @delete("/relationships/{relationship_id:uuid}", guards=[WRITE_CHARACTERS], dry_run=True)
    async def delete_relationship(
        self, user: CurrentUser, relationship_id: FromPath[UUID], if_match: IfMatch = None
    ) -> None:
        """Delete a relationship, for both characters."""
        await queries.delete_relationship(user, relationship_id, if_match)
