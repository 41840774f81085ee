"""Finds the caller by the Authorization header."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar.types import ASGIApp, Receive, Send

from service.callers import ANONYMOUS, Caller
from service.database.shares import FROM_ADDRESS, ON_BEHALF_OF
from service.limits.rate_limits import Limit, address_of
from service.web.middleware.rate_limit import count_request

_WITHOUT_SHARE = ("/health", "/metrics")  # paths that must answer whatever their callers do
_MOST_KNOWN = 10_000
_LONGEST_KNOWN = 128  # bytes; "Bearer" and a token are 63, and spaces between them may be many


class Authentication:
    """Sets ``scope["user"]``, and for whom the request uses the database: the user, or else the address, and the
    address in any case, whose users have a share together. With an invalid token it sets ``scope["auth"]`` to the
    reason, and the route's guards decide whether to refuse. Outside /v1 every caller is anonymous: health checks work
    without the database.

    A token that was not valid here before counts against ``look_ups`` before it is looked up, so invented tokens cost
    the database little, and nobody who has used a valid one is refused because of them."""

    def __init__(self, app: ASGIApp, identify: Callable[[str], Awaitable[Caller | str]], look_ups: Limit) -> None:
        self.app = app
        self.identify = identify
        self.look_ups = look_ups
        self._known: set[bytes] = set()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        scope["user"], scope["auth"] = ANONYMOUS, None
        if scope["path"].startswith(_WITHOUT_SHARE):
            await self.app(scope, receive, send)
            return
        address = address_of(scope)
        caller_before, address_before = ON_BEHALF_OF.set(address), FROM_ADDRESS.set(address)
        try:
            await self._identify(scope)
            await self.app(scope, receive, send)
        finally:
            ON_BEHALF_OF.reset(caller_before)
            FROM_ADDRESS.reset(address_before)

    async def _identify(self, scope: Any) -> None:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        if header is not None and scope["path"].startswith("/v1/"):
            if header not in self._known:
                await count_request(self.look_ups, scope)
            caller = await self.identify(header.decode("latin-1"))
            if isinstance(caller, str):
                scope["auth"] = caller
                self._known.discard(header)
            else:
                scope["user"] = caller
                ON_BEHALF_OF.set(caller.id)
                if len(header) <= _LONGEST_KNOWN:
                    self._remember(header)

    def _remember(self, header: bytes) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known.add(header)
