from uuid import UUID

from litestar import Controller
from litestar.params import FromPath, JSONBody

from service.answers import resource
from service.callers import CurrentUser, requires
from service.characters.schemas import CharacterRead, CopyCreate
from service.copies import queries
from service.routes import Rendered, post


class CopyController(Controller):
    tags = ("Characters",)

    @post(
        "/characters/{character_id:uuid}/copies",
        guards=[requires("characters:write")],
        dry_run=True,
        idempotent=True,
    )
    async def copy_character(
        self, user: CurrentUser, character_id: FromPath[UUID], data: JSONBody[CopyCreate]
    ) -> Rendered[CharacterRead]:
        """Make a private copy of your own, card and all, which knows its original."""
        row = await queries.copy_character(user, character_id)
        return resource(row, created_at=f"/v1/characters/{row['id']}")
