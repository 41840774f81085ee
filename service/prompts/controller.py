from uuid import UUID

from litestar import Controller
from litestar.params import FromPath

from service.callers import CurrentUser, requires
from service.prompts import queries
from service.prompts.schemas import PromptRead
from service.routes import get


class PromptController(Controller):
    tags = ("Characters",)

    @get("/characters/{character_id:uuid}/prompt", public=True, guards=[requires("characters:read")])
    async def render_prompt(self, user: CurrentUser, character_id: FromPath[UUID]) -> PromptRead:
        """The prompt for an image generator: the character's own, or its template's, with everything filled in."""
        return await queries.render_prompt(user, character_id)
