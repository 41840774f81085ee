"""Refuses requests whose URL or headers are too large. Bodies are limited where they are read."""

from typing import Any

from service.errors import BadRequest, HeadersTooLarge, UrlTooLong
from service.parameters import MAX_PARAMETERS
from service.web.middleware.headers import Headers

MAX_URL = 8 * 1024  # bytes, with the query
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024  # of all headers together
_SHOWN_PATH = 256  # characters of a path that is too long, in the log and in the problem


def check_sizes(scope: Any) -> None:
    query: bytes = scope["query_string"]
    if len(scope.get("raw_path") or b"") + len(query) > MAX_URL:
        scope["path"] = scope["path"][:_SHOWN_PATH]
        raise UrlTooLong(f"The URL is longer than {MAX_URL} bytes.")
    if query.count(b"&") >= MAX_PARAMETERS:
        raise BadRequest(f"The query has more than {MAX_PARAMETERS} parameters.")
    headers: Headers = scope["headers"]
    if len(headers) > MAX_HEADERS:
        raise HeadersTooLarge(f"The request has more than {MAX_HEADERS} headers.")
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
    if size > MAX_HEADER_BYTES:
        raise HeadersTooLarge(f"The headers are larger than {MAX_HEADER_BYTES} bytes.")
