from uuid import UUID

from litestar import Controller
from litestar.params import FromPath

from service.callers import CurrentUser, requires
from service.routes import get
from service.validations import queries
from service.validations.schemas import Validation


class ValidationController(Controller):
    tags = ("Characters",)

    @get("/characters/{character_id:uuid}/validation", public=True, guards=[requires("characters:read")])
    async def validate_character(self, user: CurrentUser, character_id: FromPath[UUID]) -> Validation:
        """How a character stands to the newest version of its template."""
        return await queries.validate_character(user, character_id)
