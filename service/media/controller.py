import hmac
import time
from typing import Any

from litestar import Controller, Request, Response
from litestar.params import FromPath

from service.errors import NotFound
from service.media.storage import signature
from service.media.transfer import show_linked_file
from service.web.routes import get


class MediaController(Controller):
    include_in_schema = False

    @get("/media/{name:str}")
    async def get_file(self, request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        """The file behind a signed link, until the link expires."""
        expires, signed = (request.query_params.get(key, "") for key in ("expires", "signature"))
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12 and signed.isascii()):
            raise NotFound
        if not hmac.compare_digest(signed, signature(name, int(expires))) or int(expires) < time.time():
            raise NotFound
        return await show_linked_file(name, int(expires))
