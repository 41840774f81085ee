"""Shows pictures in the admin site: a script adds a picture wherever the site shows the name of a file."""

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.admin.additions import add_script, api_of
from service.media.queries import file_name
from service.media.storage import STORAGE, WEBP

_SIZES = ("64", "256")
_NAME = re.compile("[0-9a-f]{64}")


def add_pictures(site: Any) -> None:
    """Adds a route for the script, and one for pictures below /api, which needs an operator's session."""
    api_of(site).router.routes.insert(0, Route("/pictures/{name}", _get_picture))
    add_script(site, "pictures.js")


async def _get_picture(request: Request) -> Response:
    name, size = request.path_params["name"], request.query_params.get("size", "64")
    if not _NAME.fullmatch(name) or size not in _SIZES:
        return Response(status_code=404)
    try:
        content = await STORAGE.get(file_name(name, size))
    except FileNotFoundError:
        return Response(status_code=404)
    return Response(content, media_type=WEBP, headers={"Cache-Control": "private, max-age=3600"})
