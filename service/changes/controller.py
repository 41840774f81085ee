from litestar import Controller

from service.changes import queries
from service.changes.schemas import ChangePage, ChangeQuery
from service.web.guards import READ_CHARACTERS, CurrentUser
from service.web.requests import StrictRequest
from service.web.responses import Rendered
from service.web.routes import get


class ChangeController(Controller):
    path = "/changes"
    tags = ("Changes",)

    @get("/", guards=[READ_CHARACTERS])
    async def list_changes(self, request: StrictRequest[ChangeQuery], user: CurrentUser) -> Rendered[ChangePage]:
        """What happened to your characters since `after`, or all of them without.

        Each character comes once, as it is now, in the order of the last changes. To keep a copy in step, ask again
        with `next_cursor`: nothing is skipped. Deletions are told for 30 days, so a cursor that was left for 29 answers
        400: start again without it, and forget what does not come.
        """
        query = request.parameters
        items, cursor = await queries.list_changes(user, query.limit, query.after)
        return Rendered(f'{{"items":[{",".join(items)}],"next_cursor":"{cursor}"}}')
