from collections.abc import AsyncGenerator

from litestar import Controller
from litestar.background_tasks import BackgroundTask
from litestar.response import Stream

from service.exports import queries
from service.web.guards import CurrentUser, requires_session
from service.web.middleware.rate_limit import Cost
from service.web.openapi_content import LinesOperation
from service.web.routes import get

NDJSON = "application/x-ndjson"


class ExportController(Controller):
    path = "/users/me/export"
    tags = ("Users",)
    guards = (requires_session,)

    @get("/", media_type=NDJSON, operation_class=LinesOperation, middleware=[Cost(50)])
    async def export_account(self, user: CurrentUser) -> Stream:
        """Export all your data.

        Each line is a JSON object; its `kind` names the type. While another export of yours is running, the response is
        429.
        """
        pieces = await queries.export_account(user)
        headers = {"Content-Disposition": 'attachment; filename="export.ndjson"'}
        return Stream(pieces, media_type=NDJSON, headers=headers, background=BackgroundTask(_close, pieces))


async def _close(pieces: AsyncGenerator[bytes, None]) -> None:
    """Releases the connection if the client stopped reading."""
    await pieces.aclose()
