"""Refuses URLs and headers that are larger than any client needs. Bodies are bounded where they are read."""

from itertools import chain
from typing import Any

from litestar.types import ASGIApp, Receive, Send

from service.errors import BadRequest, HeadersTooLarge, UrlTooLong
from service.schemas import MAX_PARAMETERS
from service.web.middleware.compression import Headers

MAX_URL = 8 * 1024  # bytes, with the query
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024  # of all together
_LOGGED_PATH = 256  # characters of a path that is too long, in the log and in the problem


class SizeLimits:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        query: bytes = scope["query_string"]
        if len(scope.get("raw_path") or b"") + len(query) > MAX_URL:
            scope["path"] = scope["path"][:_LOGGED_PATH]
            raise UrlTooLong(f"The URL is longer than {MAX_URL} bytes.")
        if query.count(b"&") >= MAX_PARAMETERS:
            raise BadRequest(f"The query has more than {MAX_PARAMETERS} parameters.")
        headers: Headers = scope["headers"]
        if len(headers) > MAX_HEADERS:
            raise HeadersTooLarge(f"The request has more than {MAX_HEADERS} headers.")
        if sum(map(len, chain.from_iterable(headers))) > MAX_HEADER_BYTES:
            raise HeadersTooLarge(f"The headers are larger than {MAX_HEADER_BYTES} bytes.")
        await self.app(scope, receive, send)
