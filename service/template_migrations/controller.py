from uuid import UUID

from litestar import Controller
from litestar.params import FromPath

from service.lists.cursors import decode_cursor, encode_cursor
from service.schemas import Page
from service.template_migrations import queries
from service.template_migrations.schemas import MigrationQuery, Move, Usage
from service.web.guards import READ_TEMPLATES, WRITE_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import Cost, Parameters
from service.web.requests import Number, StrictRequest
from service.web.routes import get, post

_FIRST = UUID(int=0)


def _cost(parameters: Parameters) -> int:
    limit = parameters.get("limit", "")
    is_number = limit.isascii() and limit.isdigit() and len(limit) <= 3  # StrictRequest refuses others afterwards
    return max(1, min(int(limit) if is_number else MigrationQuery().limit, 100) // 10)


class TemplateMigrationController(Controller):
    path = "/templates/{template_id:uuid}"
    tags = ("Templates",)

    @post(
        "/versions/{number:int}/migration",
        status_code=200,
        guards=[WRITE_CHARACTERS],
        dry_run=True,
        middleware=[Cost(_cost)],
    )
    async def migrate_characters(
        self,
        request: StrictRequest[MigrationQuery],
        user: CurrentUser,
        template_id: FromPath[UUID],
        number: Number,
    ) -> Page[Move]:
        """Migrate your characters of this template to this version.

        A character that does not satisfy the new version stays on its old one, unchanged. One request handles up to
        `limit` characters: repeat it with `next_cursor` as `cursor` until `next_cursor` is null. A dry run shows the
        result for each character.
        """
        shape = f"migration to {template_id} {number}"
        query = request.parameters
        after = decode_cursor(query.cursor, shape, (UUID,))[0] if query.cursor else _FIRST
        results, last = await queries.migrate_characters(user, template_id, number, query.limit, after)
        return Page(items=results, next_cursor=encode_cursor([last], shape) if last else None)

    @get("/usage", public=True, guards=[READ_TEMPLATES], middleware=[Cost(5)])
    async def count_template_usage(self, user: CurrentUser, template_id: FromPath[UUID]) -> Usage:
        """Count the characters on each version of a template.

        Only characters that you may see are counted, your own first, and at most 10,000.
        """
        return await queries.count_usage(user, template_id)
