from litestar import Controller

from service.changes import queries
from service.changes.schemas import ChangePage, ChangeQuery
from service.web.guards import READ_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import Cost
from service.web.requests import StrictRequest
from service.web.responses import Rendered
from service.web.routes import get


class ChangeController(Controller):
    path = "/changes"
    tags = ("Changes",)

    @get("/", guards=[READ_CHARACTERS], middleware=[Cost(2)])
    async def list_changes(self, request: StrictRequest[ChangeQuery], user: CurrentUser) -> Rendered[ChangePage]:
        """List the changes of your characters.

        Without `after` the list starts with the oldest change. Each character appears once, as it is now, in the order
        of the last changes. To keep a copy up to date, send `next_cursor` as `after` in the next request: no change is
        skipped. A page of large characters has fewer than `limit`; you have read all changes when a page has none.
        Deletions stay in the list for 30 days, so a cursor older than 29 days is refused with 400. Then read the list
        again from the start, and delete from your copy every character that is not in it.
        """
        query = request.parameters
        items, cursor = await queries.list_changes(user, query.limit, query.after)
        return Rendered(f'{{"items":[{",".join(items)}],"next_cursor":"{cursor}"}}')
