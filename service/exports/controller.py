from typing import Any

from litestar import Controller

from service.exports import queries
from service.web.guards import CurrentUser, requires_session
from service.web.middleware.rate_limit import Cost
from service.web.openapi_content import LinesOperation
from service.web.responses import Rendered, Streamed
from service.web.routes import get

NDJSON = "application/x-ndjson"


class ExportController(Controller):
    path = "/users/me/export"
    tags = ("Users",)
    guards = (requires_session,)

    @get("/", media_type=NDJSON, operation_class=LinesOperation, middleware=[Cost(50)])
    async def export_account(self, user: CurrentUser) -> Rendered[Any]:
        """Export all your data.

        Each line is a JSON object; its `kind` names the type. While another export of yours is running, the response is
        429.
        """
        pieces = await queries.export_account(user)
        headers = {"Content-Disposition": 'attachment; filename="export.ndjson"'}
        return Streamed(pieces, NDJSON, headers=headers)
