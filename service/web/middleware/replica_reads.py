"""Says which requests may read from a replica of the database: GET requests of callers who wrote nothing lately."""

from functools import partial
from typing import Any
from uuid import UUID

from litestar.types import ASGIApp, Message, Receive, Send

from service.database.replicas import MAY_READ_REPLICA
from service.limits.recent_writes import may_have_written, note_write


class ReplicaReads:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        user: UUID | None = scope["user"].id
        if scope["method"] == "GET":
            before = MAY_READ_REPLICA.set(partial(_may_read, user))
            try:
                await self.app(scope, receive, send)
            finally:
                MAY_READ_REPLICA.reset(before)
        elif user is None:
            await self.app(scope, receive, send)
        else:

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await note_write(user)
                await send(message)

            await self.app(scope, receive, send_noted)


async def _may_read(user: UUID | None) -> bool:
    return user is None or not await may_have_written(user)
