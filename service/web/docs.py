"""HTML pages: the API documentation, its assets, and a page for each problem. None loads anything from other hosts."""

from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import litestar_offline_docs
import msgspec
from litestar import Controller, Litestar, Request, Response
from litestar.enums import MediaType
from litestar.file_system import BaseLocalFileSystem
from litestar.params import FromPath
from litestar.response import Redirect
from litestar.static_files import create_static_files_router
from litestar.types.file_types import FileInfo

from service.errors import PROBLEMS, NotFound
from service.web.csp import page_policy
from service.web.openapi import openapi_document
from service.web.openapi_config import ASSETS_PATH
from service.web.routes import get


class _Assets(BaseLocalFileSystem):
    async def info(self, path: Any, **options: Any) -> FileInfo:
        """Raises FileNotFoundError also for names that no file can have: too long, with NUL, or below a file. Litestar
        would answer 500."""
        try:
            return await super().info(path, **options)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(path) from error


ASSETS = create_static_files_router(
    path=ASSETS_PATH,
    directories=[Path(litestar_offline_docs.__file__).parent / "static"],
    file_system=_Assets(),
    include_in_schema=False,
)


@get("/openapi.json", include_in_schema=False)
async def get_openapi(request: Request[Any, Any, Any]) -> Response[Any]:
    """The OpenAPI document."""
    return Response(_document(request.app), media_type=MediaType.JSON, headers={"Cache-Control": "public, max-age=60"})


@cache
def _document(app: Litestar) -> bytes:
    return msgspec.json.encode(openapi_document(app))


@get("/", include_in_schema=False)
async def get_root() -> Redirect:
    """Redirects a browser to the documentation."""
    return Redirect("/docs")


_STYLE = "body { font-family: system-ui; max-width: 40em; margin: 3em auto }"


class ProblemController(Controller):
    path = "/problems"
    include_in_schema = False

    @get("/", media_type=MediaType.HTML)
    async def list_problems(self) -> Response[str]:
        """List all problems."""
        items = "".join(
            f'<li><a href="/problems/{slug}">{escape(slug)}</a>: {kind.status}</li>' for slug, kind in PROBLEMS.items()
        )
        return _page("Problems", f"<ul>{items}</ul>")

    @get("/{slug:str}", media_type=MediaType.HTML)
    async def get_problem(self, slug: FromPath[str]) -> Response[str]:
        """Explain a problem."""
        if (kind := PROBLEMS.get(slug)) is None:
            raise NotFound
        return _page(f"{kind.status} {kind.title()}", f"<p>{escape(kind.meaning)}</p>")


def _page(title: str, body: str) -> Response[str]:
    html = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style><body><h1>{title}</h1>{body}</body></html>"
    )
    return Response(html, media_type=MediaType.HTML, headers={"Content-Security-Policy": page_policy(style=_STYLE)})
