"""Closes websockets: the service has none. All other middleware sees HTTP requests only."""

from typing import Any

from litestar.types import ASGIApp, Receive, Send


class RejectWebSockets:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})  # type: ignore[typeddict-item] # code and reason are optional
            return
        await self.app(scope, receive, send)
