"""Dry runs (``?dry_run=true``) and idempotent writes (Idempotency-Key).

Routes enable them with ``dry_run=True`` and ``idempotent=True``. The middleware runs the handler in a transaction, and
sends the response after the transaction has ended. A route's ``prepare`` runs before it.
"""

import asyncio
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Protocol
from uuid import UUID

import msgspec
from litestar import Request
from litestar.types import ASGIApp, Message, Receive, Send

from service.database.engine import DB
from service.errors import TooLarge
from service.web.problems import answer_problem
from service.web.requests import FORM, MAX_PARTS, StrictRequest, is_dry_run, prepared

MAX_KEPT = 1024 * 1024  # bytes of a stored response


class Answer(msgspec.Struct):
    """A response that is not sent yet."""

    status: int = 0
    headers: dict[str, str] = {}
    body: bytes = b""


_NOT_KEPT = (
    "The response would be larger than 1 MiB, which is too large to be repeated for an Idempotency-Key. Nothing was"
    " changed. Send less in one request, or send it without the key."
)


class Attempt(Protocol):
    """One request with an Idempotency-Key, and the stored answer to it."""

    async def find_answer(self) -> tuple[int, dict[str, str], bytes] | None: ...

    async def keep_answer(self, status: int, headers: dict[str, str], body: bytes) -> None: ...


class Writes:
    """``begin_attempt`` takes the caller's id, the method, the path with the query, the key and the body's digest."""

    def __init__(self, app: ASGIApp, begin_attempt: Callable[[UUID, str, str, str, bytes], Attempt]) -> None:
        self.app = app
        self.begin_attempt = begin_attempt

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        opt = scope["route_handler"].opt
        if opt.get("dry_run") and scope["query_string"] and is_dry_run(Request(scope)):
            run = self._run_dry
        elif opt.get("idempotent") and any(name == b"idempotency-key" for name, _ in scope["headers"]):
            run = self._run_once
        else:
            await self.app(scope, receive, send)
            return
        request: Request[Any, Any, Any] = Request(scope, receive)
        try:
            answer = await run(request)
        except Exception as error:  # Litestar would not handle it, as it assumes that the response has started
            await answer_problem(request, error).to_asgi_response(None, request)(scope, receive, send)
        else:
            await _send(answer, send)

    async def _run_dry(self, request: Request[Any, Any, Any]) -> Answer:
        """Rolls the work back. 201 becomes 200; a deletion stays 204, as it has no body."""
        await _authorize(request)
        await (prepared(request) if "prepare" in request.route_handler.opt else request.body())
        async with DB.transaction() as transaction:
            transaction.is_dry_run = True
            answer = await self._answer(request)
            await transaction.rollback()
        answer.status = 200 if answer.status == 201 else answer.status
        answer.headers = {name: value for name, value in answer.headers.items() if name not in ("etag", "location")}
        return answer

    async def _run_once(self, request: Request[Any, Any, Any]) -> Answer:
        """Runs the handler, or repeats the stored answer. The key is committed together with the work."""
        await _authorize(request)
        compared = await _digest(request)  # before the transaction begins, in which nothing waits for the client
        target = f"{request.scope['path']}?{request.scope['query_string'].decode('latin-1')}"
        attempt = self.begin_attempt(
            request.user.id, request.method, target, request.headers["idempotency-key"], compared
        )
        if "prepare" in request.route_handler.opt:
            async with DB.transaction():
                if (kept := await attempt.find_answer()) is not None:
                    return _replayed(kept)
            await prepared(request)  # the slow work, which must hold no connection and no lock
        async with DB.transaction() as transaction:
            if (kept := await attempt.find_answer()) is not None:
                return _replayed(kept)
            answer = await self._answer(request)
            if answer.status < 300 and len(answer.body) > MAX_KEPT:
                raise TooLarge(_NOT_KEPT)  # which rolls the work back
            if answer.status < 300:
                await attempt.keep_answer(answer.status, answer.headers, answer.body)
            else:
                await transaction.rollback()
        return answer

    async def _answer(self, request: Request[Any, Any, Any]) -> Answer:
        answer = Answer()

        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                answer.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
            elif message["type"] == "http.response.body":
                answer.body += message["body"]

        await self.app(request.scope, request.receive, hold)
        return answer


def _replayed(kept: tuple[int, dict[str, str], bytes]) -> Answer:
    answer = Answer(*kept)
    answer.headers["idempotency-replayed"] = "true"
    return answer


async def _authorize(request: Request[Any, Any, Any]) -> None:
    """A caller without permission learns nothing about keys."""
    await request.scope["route_handler"].authorize_connection(StrictRequest[Any](request.scope))


class BodyDigest:
    """The SHA-256 of a body that arrives in pieces. Of a form's, it leaves out the boundary, which is new in each
    request; the names and the order of files count."""

    def __init__(self, boundary: bytes = b"") -> None:
        self._boundary = boundary
        self._hashed = sha256()
        self._parts = 0
        self._rest = b""  # which may be the start of a boundary

    def update(self, piece: bytes) -> None:
        piece, at = self._rest + piece, 0
        while self._boundary and self._parts <= MAX_PARTS + 1:  # a form with more is refused
            found = piece.find(self._boundary, at)
            if found < 0:
                break
            self._hashed.update(memoryview(piece)[at:found])
            at = found + len(self._boundary)
            self._parts += 1
        end = max(at, len(piece) - len(self._boundary) + 1) if self._boundary else len(piece)
        self._hashed.update(memoryview(piece)[at:end])
        self._rest = piece[end:]

    def digest(self) -> bytes:
        self._hashed.update(self._rest)
        return self._hashed.digest()


async def _digest(request: Request[Any, Any, Any]) -> bytes:
    """Reads the body: a large one in pieces, after which the handler reads it again from disk."""
    body = BodyDigest(_boundary(request))
    read_again = request.scope["state"].get("read_again")
    if read_again is None:
        body.update(await request.body())
    else:
        async for piece in Request[Any, Any, Any](request.scope, request.receive).stream():
            if piece:
                await asyncio.to_thread(body.update, piece)
        read_again()
    return body.digest()


def _boundary(request: Request[Any, Any, Any]) -> bytes:
    """With the hyphens of a delimiter; empty for a body that is no form."""
    media_type, options = request.content_type
    boundary = options.get("boundary")
    return b"--" + boundary.encode() if media_type == FORM and boundary else b""


async def _send(answer: Answer, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
