"""HEAD and If-None-Match: responses without a body."""

from collections.abc import Awaitable
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from service.web.middleware.headers import list_header


class Head:
    """Answers HEAD as GET, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        def send_without_body(message: Any) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                scope["method"] = "HEAD"  # for another method the server would check Content-Length
            elif message["type"] == "http.response.body":
                message = message | {"body": b""}
            return send(message)

        scope["method"] = "GET"
        await self.app(scope, receive, send_without_body)


class Conditional:
    """Answers 304 to a GET whose If-None-Match names the ETag of its 200."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        tags = list_header(scope, b"if-none-match") if scope["method"] == "GET" else None
        if tags is None:
            await self.app(scope, receive, send)
            return
        is_not_modified = False

        def send_if_modified(message: Message) -> Awaitable[None]:
            nonlocal is_not_modified
            if message["type"] == "http.response.start":
                headers = list(message["headers"])
                if message["status"] == 200 and _matches(tags, dict(headers).get(b"etag")):
                    is_not_modified = True
                    message["status"] = 304
                    message["headers"] = [header for header in headers if not _describes_the_body(header[0])]
            elif is_not_modified and message["type"] == "http.response.body":
                message["body"] = b""
            return send(message)

        await self.app(scope, receive, send_if_modified)


def _describes_the_body(name: bytes) -> bool:
    return name.startswith(b"content-") and name != b"content-security-policy"


def _matches(if_none_match: bytes, etag: bytes | None) -> bool:
    """The weak comparison of RFC 9110."""
    if etag is None:
        return False
    tags = {tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b",")}
    return b"*" in tags or etag.removeprefix(b"W/") in tags
