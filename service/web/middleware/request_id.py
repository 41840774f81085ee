"""Gives each request its id: the client's X-Request-ID where it is well-formed and no token, else a new one."""

import re
from typing import Any

from litestar.types import ASGIApp, Receive, Send

from service.identifiers import masked, request_id
from service.web.middleware.headers import request_header

_WELL_FORMED = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """Sets ``state["request_id"]`` and creates ``state["headers"]``, the headers that SecurityHeaders adds to the
    response, and ``state["server_send"]``, the server's own ``send``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        given = request_header(scope, b"x-request-id")
        own = _checked(given) if given is not None else request_id()
        state = scope.setdefault("state", {})
        state["request_id"] = own
        state["server_send"] = send
        state["headers"] = {b"x-request-id": own.encode()}
        try:
            await self.app(scope, receive, send)
        finally:
            # The server keeps the scope until the connection has another request, and the state has the body. The
            # server's object refers to the scope, too, so that all of it would wait for Python's collector of cycles
            state.clear()
            state["request_id"] = own


def _checked(given: bytes) -> str:
    """The id as given, unless it is not well-formed, or a token, which would be logged."""
    own = given.decode("latin-1")
    return own if _WELL_FORMED.fullmatch(given) and masked(own) == own else request_id()
