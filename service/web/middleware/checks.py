"""Refuses requests by their URL and headers, before anything is done for them."""

from collections.abc import Callable, Sequence
from typing import Any

from litestar.types import ASGIApp, Receive, Send


class Checks:
    """Each check takes the scope and raises a ServiceError. One middleware calls all of them, because each further
    middleware adds 1 µs to every request."""

    def __init__(self, app: ASGIApp, checks: Sequence[Callable[[Any], None]]) -> None:
        self.app = app
        self.checks = checks

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        for check in self.checks:
            check(scope)
        await self.app(scope, receive, send)
