"""The OpenAPI document, the page that shows it, and a page for each problem. Nothing here asks another host."""

from html import escape
from pathlib import Path
from typing import Any

import litestar_offline_docs
from litestar import Controller, Request, Response, get
from litestar.enums import MediaType
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.static_files import create_static_files_router

from service.errors import PROBLEMS, NotFound

_ASSETS = "/docs-assets"
_TAGS = {
    "Users": "Members and their profiles.",
    "Sessions": "Signing in and out. Send the token as `Authorization: Bearer <token>`.",
    "API keys": "Tokens for programs, with scopes.",
    "Templates": "Reusable rules for characters, in versions that never change once published.",
    "Characters": "What the platform is for.",
    "Relationships": "What one character is to another: one row, read from both sides.",
}

ASSETS = create_static_files_router(
    path=_ASSETS, directories=[Path(litestar_offline_docs.__file__).parent / "static"], include_in_schema=False
)


def _operation_id(handler: HTTPRouteHandler, *_: Any) -> str:
    return str(handler.handler_name)


OPENAPI = OpenAPIConfig(
    title="Character service",
    version="1",
    description=(
        "Characters, the templates that rule them, and what they are to each other. Every error is a problem "
        "(RFC 9457) that names all its faults; lists are keyset pages; rows carry an ETag for `If-Match`."
    ),
    path="/docs",
    render_plugins=[
        SwaggerRenderPlugin(
            path="/",
            js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            css_url=f"{_ASSETS}/swagger-ui.css",
            standalone_preset_js_url=f"{_ASSETS}/swagger-ui-standalone-preset.js",
            favicon="<link rel='icon' href='data:,'>",
        )
    ],
    operation_id_creator=_operation_id,
    use_handler_docstrings=True,
    tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
    components=Components(
        security_schemes={
            "token": SecurityScheme(type="http", scheme="bearer", description="A session's or an API key's token.")
        }
    ),
    security=[{"token": []}],
)


@get(["/openapi.json"], include_in_schema=False)
async def get_openapi(request: Request[Any, Any, Any]) -> Response[Any]:
    """The OpenAPI document."""
    return Response(request.app.openapi_schema.to_schema(), headers={"Cache-Control": "public, max-age=60"})


@get("/", include_in_schema=False)
async def get_root() -> Redirect:
    """Who comes by hand is shown the documentation."""
    return Redirect("/docs")


class ProblemController(Controller):
    path = "/problems"
    include_in_schema = False

    @get("/", media_type=MediaType.HTML)
    async def list_problems(self) -> Response[str]:
        """Every problem there is."""
        items = "".join(
            f'<li><a href="/problems/{slug}">{escape(slug)}</a>: {kind.status}</li>' for slug, kind in PROBLEMS.items()
        )
        return _page("Problems", f"<ul>{items}</ul>")

    @get("/{slug:str}", media_type=MediaType.HTML)
    async def get_problem(self, slug: FromPath[str]) -> Response[str]:
        """What a problem's `type` means."""
        if (kind := PROBLEMS.get(slug)) is None:
            raise NotFound
        return _page(f"{kind.status} {kind.title()}", f"<p>{escape(kind.meaning)}</p>")


def _page(title: str, body: str) -> Response[str]:
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<body style="font-family: system-ui; max-width: 40em; margin: 3em auto"><h1>{title}</h1>{body}</body></html>'
    )
    return Response(html, media_type=MediaType.HTML)
