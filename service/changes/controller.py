from typing import Annotated

from litestar import Controller
from litestar.params import QueryParameter

from service.changes import queries
from service.changes.schemas import ChangePage
from service.web.guards import CurrentUser, requires
from service.web.query import Limit
from service.web.responses import Rendered
from service.web.routes import get

After = Annotated[
    str | None,
    QueryParameter(name="after", max_length=1000, description="Where to go on: `next_cursor` of the last answer."),
]


class ChangeController(Controller):
    path = "/changes"
    tags = ("Changes",)

    @get("/", guards=[requires("characters:read")])
    async def list_changes(self, user: CurrentUser, limit: Limit = 20, after: After = None) -> Rendered[ChangePage]:
        """What happened to your characters since `after`, or all of them without.

        Each character comes once, as it is now, in the order of the last changes. To keep a copy in step, ask again
        with `next_cursor`: nothing is skipped. Deletions are told for 30 days, so a cursor that was left for 29 answers
        400: start again without it, and forget what does not come.
        """
        items, cursor = await queries.list_changes(user, limit, after)
        return Rendered(f'{{"items":[{",".join(items)}],"next_cursor":"{cursor}"}}')
