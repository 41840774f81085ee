"""Writes that are asked for in a special way: as a rehearsal (``?dry_run=true``), or just once (Idempotency-Key).

A route takes part by saying ``dry_run=True`` or ``idempotent=True``. Its handler runs as ever, but inside of a
transaction that is opened here, and the answer is held back until that has ended.
"""

from collections.abc import Callable
from typing import Any, Protocol
from uuid import UUID

import msgspec
from litestar import Request
from litestar.types import ASGIApp, Message, Receive, Send

from service.database.engine import DB
from service.web.problems import answer_problem


class Answer(msgspec.Struct):
    """A response that is held back."""

    status: int = 0
    headers: dict[str, str] = {}
    body: bytes = b""


class Attempt(Protocol):
    """One request with an Idempotency-Key, and the answer kept for it."""

    async def find_answer(self) -> tuple[int, dict[str, str], bytes] | None: ...

    async def keep_answer(self, status: int, headers: dict[str, str], body: bytes) -> None: ...


class Writes:
    """``begin_attempt`` takes the caller, the method, the path with its query, the key and the body."""

    def __init__(self, app: ASGIApp, begin_attempt: Callable[[UUID, str, str, str, bytes], Attempt]) -> None:
        self.app = app
        self.begin_attempt = begin_attempt

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        takes = scope["route_handler"].opt
        if takes.get("dry_run") and scope["query_string"] and Request(scope).query_params.get("dry_run") == "true":
            run = self._rehearse
        elif takes.get("idempotent") and any(name == b"idempotency-key" for name, _ in scope["headers"]):
            run = self._do_once
        else:
            await self.app(scope, receive, send)
            return
        request: Request[Any, Any, Any] = Request(scope, receive)
        try:
            answer = await run(request)
        except Exception as error:  # Litestar would not tell it: it takes the answer held back for one under way
            await answer_problem(request, error).to_asgi_response(None, request)(scope, receive, send)
        else:
            await _send(answer, send)

    async def _rehearse(self, request: Request[Any, Any, Any]) -> Answer:
        """Everything is done, and undone. A deletion, which has nothing to show, stays 204."""
        await _let_in(request)
        async with DB.transaction() as transaction:
            transaction.is_dry_run = True
            answer = await self._held_back(request)
            await transaction.rollback()
        answer.status = 200 if answer.status == 201 else answer.status
        answer.headers = {name: value for name, value in answer.headers.items() if name not in ("etag", "location")}
        return answer

    async def _do_once(self, request: Request[Any, Any, Any]) -> Answer:
        """It is done, or told again as when it was done. The key commits with the work."""
        body = await _let_in(request)
        target = f"{request.scope['path']}?{request.scope['query_string'].decode('latin-1')}"
        compared = _without_boundary(request, body)
        attempt = self.begin_attempt(
            request.user.id, request.method, target, request.headers["idempotency-key"], compared
        )
        async with DB.transaction() as transaction:
            if (kept := await attempt.find_answer()) is not None:
                answer = Answer(*kept)
                answer.headers["idempotency-replayed"] = "true"
                return answer
            answer = await self._held_back(request)
            if answer.status < 300:
                await attempt.keep_answer(answer.status, answer.headers, answer.body)
            else:
                await transaction.rollback()
        return answer

    async def _held_back(self, request: Request[Any, Any, Any]) -> Answer:
        answer = Answer()

        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
            elif message["type"] == "http.response.body":
                answer.body += message["body"]

        await self.app(request.scope, request.receive, hold)
        return answer


async def _let_in(request: Request[Any, Any, Any]) -> bytes:
    """The body. Whoever may not do this learns nothing of a key, and no transaction waits for a slow client."""
    await request.scope["route_handler"].authorize_connection(request)
    return await request.body()


def _without_boundary(request: Request[Any, Any, Any], body: bytes) -> bytes:
    """A form as it is compared with the one that was sent before: clients put another boundary between its parts each
    time. Names of files count, and their order."""
    media_type, options = request.content_type
    boundary = options.get("boundary")
    return body.replace(boundary.encode(), b"") if media_type == "multipart/form-data" and boundary else body


async def _send(answer: Answer, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
