"""Finds the caller by the Authorization header."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.types import ASGIApp, Receive, Send

from service.callers import ANONYMOUS, Caller


class Authentication:
    """Sets ``scope["user"]``. With an invalid token it sets ``scope["auth"]`` to the reason, and the route's guards
    decide whether to refuse. Outside /v1 every caller is anonymous: health checks work without the database."""

    def __init__(self, app: ASGIApp, identify: Callable[[str], Awaitable[Caller | str]]) -> None:
        self.app = app
        self.identify = identify

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        caller: Caller | str = ANONYMOUS
        if scope["path"].startswith("/v1/"):
            for name, value in scope["headers"]:
                if name == b"authorization":
                    caller = await self.identify(value.decode("latin-1"))
                    break
        scope["user"], scope["auth"] = (ANONYMOUS, caller) if isinstance(caller, str) else (caller, None)
        await self.app(scope, receive, send)
