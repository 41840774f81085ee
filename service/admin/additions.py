"""Routes that are added to Piccolo Admin."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def api_of(site: Any) -> Any:
    """The application below /api, which needs an operator's session."""
    return next(route for route in site.routes if route.path == "/api").app.app


def read_script(name: str) -> str:
    return (Path(__file__).parent / "scripts" / name).read_text("utf-8")


def add_script(site: Any, name: str, script: str) -> None:
    """Serves a script of the pages beside them."""

    async def get_script(_: Request) -> Response:
        return Response(script, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    site.router.routes.insert(0, Route(f"/{name}", get_script))
