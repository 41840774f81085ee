"""HTML pages: the API documentation and its assets. Nothing is loaded from other hosts."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
from litestar import Litestar, Request, Response
from litestar.enums import MediaType
from litestar.file_system import BaseLocalFileSystem
from litestar.static_files import create_static_files_router
from litestar.types.file_types import FileInfo

from service.web.openapi import openapi_document
from service.web.responses import Rendered
from service.web.routes import get
from service.web.swagger import ASSETS_PACKAGE, ASSETS_PATH


def _assets_directory() -> Path:
    """Does not import the package, which would import FastAPI: a tenth of a second."""
    package = find_spec(ASSETS_PACKAGE)
    if package is None or package.origin is None:
        raise ModuleNotFoundError(ASSETS_PACKAGE)
    return Path(package.origin).parent / "resources"


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
    directories=[_assets_directory()],
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
async def get_root() -> Rendered[None]:
    """Redirects a browser to the documentation."""
    return Rendered("", status=302, headers={"location": "/docs"})
