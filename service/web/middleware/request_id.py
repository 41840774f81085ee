"""Gives each request its id: the client's X-Request-ID where it is well-formed, else a new one."""

import re
from typing import Any

from litestar.types import ASGIApp, Receive, Send

from service.identifiers import request_id

_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """Sets ``state["request_id"]``, and begins ``state["headers"]``: headers that are added to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        given = b""
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
        known_as = given.decode() if given and _WELL_FORMED.fullmatch(given) else request_id()
        state = scope.setdefault("state", {})
        state["request_id"] = known_as
        state["headers"] = {b"x-request-id": known_as.encode()}
        await self.app(scope, receive, send)
