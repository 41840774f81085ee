from collections.abc import AsyncGenerator

from litestar import Controller
from litestar.background_tasks import BackgroundTask
from litestar.response import Stream

from service.exports import queries
from service.web.guards import CurrentUser, requires_session
from service.web.routes import get

NDJSON = "application/x-ndjson"


class ExportController(Controller):
    path = "/users/me/export"
    tags = ("Users",)
    guards = (requires_session,)

    @get("/", media_type=NDJSON)
    async def export_account(self, user: CurrentUser) -> Stream:
        """Everything you own, one JSON object a line; `kind` says what it is.

        While another export of yours is under way, this answers 429."""
        pieces = await queries.export_account(user)
        headers = {"Content-Disposition": 'attachment; filename="export.ndjson"'}
        return Stream(pieces, media_type=NDJSON, headers=headers, background=BackgroundTask(_close, pieces))


async def _close(pieces: AsyncGenerator[bytes, None]) -> None:
    """Also when the client went away, which leaves them half read."""
    await pieces.aclose()
