from typing import Annotated
from uuid import UUID

from litestar import Controller
from litestar.params import FromPath, PathParameter

from service.callers import CurrentUser, requires
from service.moving import queries
from service.moving.schemas import Move, Usage
from service.paging import decode_cursor, encode_cursor
from service.routes import get, post
from service.schemas import CursorText, Limit, Page

Number = Annotated[int, PathParameter(ge=1, le=2**31 - 1)]

_BEGINNING = UUID(int=0)


class MovingController(Controller):
    path = "/templates/{template_id:uuid}"
    tags = ("Templates",)

    @post("/versions/{number:int}/migration", status_code=200, guards=[requires("characters:write")], dry_run=True)
    async def migrate_characters(
        self,
        user: CurrentUser,
        template_id: FromPath[UUID],
        number: Number,
        limit: Limit = 100,
        cursor: CursorText = None,
    ) -> Page[Move]:
        """Move your characters of this template on to this version, each wholly or not at all.

        Up to `limit` at a time: go on with `next_cursor` until it is null. A dry run tells what would become of each.
        """
        shape = f"migration to {template_id} {number}"
        after = decode_cursor(cursor, shape, (UUID,))[0] if cursor else _BEGINNING
        moves, last = await queries.move_characters(user, template_id, number, limit, after)
        return Page(items=moves, next_cursor=encode_cursor([last], shape) if last else None)

    @get("/usage", public=True, guards=[requires("templates:read")])
    async def count_template_usage(self, user: CurrentUser, template_id: FromPath[UUID]) -> Usage:
        """How many characters, of those you may see, are pinned to each version."""
        return await queries.count_usage(user, template_id)
