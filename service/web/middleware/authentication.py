"""Turns ``Authorization: Bearer`` into a Caller."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.types import ASGIApp, Receive, Send

from service.callers import STRANGER, Caller


class Authentication:
    """Sets ``scope["user"]``, and ``scope["auth"]`` to what is wrong with a token that opens nothing: whether that
    matters, the route's guards say. Outside /v1 nobody asks: health is told also while the database is away."""

    def __init__(self, app: ASGIApp, identify: Callable[[str], Awaitable[Caller | str]]) -> None:
        self.app = app
        self.identify = identify

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        caller: Caller | str = STRANGER
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            for name, value in scope["headers"]:
                if name == b"authorization":
                    caller = await self.identify(value.decode("latin-1"))
                    break
        scope["user"], scope["auth"] = (STRANGER, caller) if isinstance(caller, str) else (caller, None)
        await self.app(scope, receive, send)
