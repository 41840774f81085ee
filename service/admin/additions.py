"""Routes and scripts that are added to Piccolo Admin."""

import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_STATIC = Path(__file__).parent / "static"


def api_of(site: Any) -> Any:
    """The application below /api, which needs an operator's session."""
    return next(route for route in site.routes if route.path == "/api").app.app


def read_static(name: str) -> str:
    return (_STATIC / name).read_text("utf-8")


def add_script(site: Any, name: str, *, first: bool = False, **values: Any) -> None:
    """Has all pages run a script of ``static``, with the JSON of each value in place of its ``__NAME__``: when the page
    is read, or ``first``, before Piccolo Admin's own."""
    script = read_static(name)
    for placeholder, value in values.items():
        script = script.replace(f"__{placeholder}__", json.dumps(value))

    async def get_script(_: Request) -> Response:
        return Response(script, media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    site.router.routes.insert(0, Route(f"/{name}", get_script))
    if first:
        site.template = site.template.replace("<head>", f'<head><script src="./{name}"></script>')
    else:
        site.template = site.template.replace("</head>", f'<script type="module" src="./{name}"></script></head>')
