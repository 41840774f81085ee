"""Health checks and metrics over HTTP."""

from typing import Any

from litestar import Controller, Request, Response

from service.errors import Forbidden
from service.health.access import may_read_metrics
from service.health.checks import check_together
from service.health.metrics import render_metrics
from service.settings import VERSION
from service.web.routes import get

# Other states only degrade: a load balancer that removed a busy worker would overload the others, and one that removed
# all workers of a database or a disk that only reads would end the reads, too
_PREVENTS_SERVING = {"away", "pending"}


class HealthController(Controller):
    include_in_schema = False

    @get("/health/live")
    async def get_live(self) -> dict[str, str]:
        """The process answers."""
        return {"status": "ok", "version": VERSION}

    @get("/health/ready")
    async def get_ready(self) -> Response[dict[str, Any]]:
        """503 with the reasons when the service cannot serve; "degraded" when it can, but with limitations."""
        checks = await check_together()
        states = set(checks.values())
        body = {"version": VERSION, "checks": checks}
        if states & _PREVENTS_SERVING:
            return Response({"status": "unavailable"} | body, status_code=503, headers={"Retry-After": "1"})
        return Response({"status": "ok" if states == {"ok"} else "degraded"} | body)

    @get("/metrics")
    async def get_metrics(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """Prometheus metrics: for clients on this machine, or with METRICS_TOKEN."""
        if not may_read_metrics(request):
            raise Forbidden("Metrics are for this machine, or for METRICS_TOKEN.")
        content, content_type = await render_metrics()
        return Response(content, media_type=content_type)
