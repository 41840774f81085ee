from uuid import UUID

from litestar import Controller
from litestar.params import FromPath

from service.lists.cursors import decode_cursor, encode_cursor
from service.schemas import Page
from service.template_migrations import queries
from service.template_migrations.schemas import MigrationQuery, Move, Usage
from service.web.guards import READ_TEMPLATES, WRITE_CHARACTERS, CurrentUser
from service.web.requests import Number, StrictRequest
from service.web.routes import get, post

_BEGINNING = UUID(int=0)


class MovingController(Controller):
    path = "/templates/{template_id:uuid}"
    tags = ("Templates",)

    @post("/versions/{number:int}/migration", status_code=200, guards=[WRITE_CHARACTERS], dry_run=True)
    async def migrate_characters(
        self,
        request: StrictRequest[MigrationQuery],
        user: CurrentUser,
        template_id: FromPath[UUID],
        number: Number,
    ) -> Page[Move]:
        """Move your characters of this template on to this version, each wholly or not at all.

        Up to `limit` at a time: go on with `next_cursor` until it is null. A dry run tells what would become of each.
        """
        shape = f"migration to {template_id} {number}"
        query = request.parameters
        after = decode_cursor(query.cursor, shape, (UUID,))[0] if query.cursor else _BEGINNING
        moves, last = await queries.move_characters(user, template_id, number, query.limit, after)
        return Page(items=moves, next_cursor=encode_cursor([last], shape) if last else None)

    @get("/usage", public=True, guards=[READ_TEMPLATES])
    async def count_template_usage(self, user: CurrentUser, template_id: FromPath[UUID]) -> Usage:
        """How many characters, of those you may see, are pinned to each version."""
        return await queries.count_usage(user, template_id)
