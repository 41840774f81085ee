from uuid import UUID

from litestar import Controller
from litestar.params import FromPath

from service.characters.schemas import CharacterRead
from service.lists.pages import page
from service.schemas import Page
from service.trash import queries
from service.trash.schemas import TrashedCharacter, TrashQuery
from service.web.guards import READ_CHARACTERS, WRITE_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import Cost, list_cost
from service.web.requests import StrictRequest
from service.web.responses import Rendered, resource
from service.web.routes import delete, get, post


class TrashController(Controller):
    path = "/trash"
    tags = ("Trash",)

    @get("/", guards=[READ_CHARACTERS], middleware=[Cost(list_cost)])
    async def list_trash(
        self, request: StrictRequest[TrashQuery], user: CurrentUser
    ) -> Rendered[Page[TrashedCharacter]]:
        """List your deleted characters, the last deleted first.

        Each is kept for 30 days. A character must match every filter.
        """
        query = request.parameters
        return page(request, await queries.list_trash(user, query), query.limit)

    @post("/{character_id:uuid}/restorations", guards=[WRITE_CHARACTERS], dry_run=True)
    async def restore_character(self, user: CurrentUser, character_id: FromPath[UUID]) -> Rendered[CharacterRead]:
        """Restore a character from the trash, with its revisions and relationships."""
        row = await queries.restore_character(user, character_id)
        return resource(row, created_at=f"/v1/characters/{character_id}")

    @delete("/{character_id:uuid}", guards=[WRITE_CHARACTERS], dry_run=True)
    async def purge_character(self, user: CurrentUser, character_id: FromPath[UUID]) -> None:
        """Delete a character in the trash permanently."""
        await queries.purge_character(user, character_id)
