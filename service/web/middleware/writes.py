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
from service.web.requests import FORM, MAX_PARTS, is_dry_run, prepared

MAX_KEPT = 1024 * 1024  # bytes of a stored response
IN_THREAD = 64 * 1024  # bytes; the digest of a longer body is computed in a thread, and of 50 MiB takes 30 ms or more
_STEP = 1024 * 1024  # bytes that are searched at once, because a search holds the GIL


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
        body = await request.body()  # before the transaction begins, in which nothing waits for the client
        target = f"{request.scope['path']}?{request.scope['query_string'].decode('latin-1')}"
        boundary = _boundary(request)
        if len(body) > IN_THREAD:
            compared = await asyncio.to_thread(digest, body, boundary)
        else:
            compared = digest(body, boundary)
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
    await request.scope["route_handler"].authorize_connection(request)


def digest(body: bytes, boundary: bytes = b"") -> bytes:
    """The SHA-256 of a body. Of a form's, it leaves out the boundary, which is new in each request; the names and the
    order of files count. Needs no copy of the body."""
    hashed, rest, at, parts = sha256(), memoryview(body), 0, 0
    begins = 0  # of what is not hashed yet
    while boundary and at < len(body) and parts <= MAX_PARTS + 1:  # a form with more is refused
        found = body.find(boundary, at, at + _STEP + len(boundary))
        if found < 0:
            at += _STEP + 1
        else:
            hashed.update(rest[begins:found])
            begins = at = found + len(boundary)
            parts += 1
    hashed.update(rest[begins:])
    return hashed.digest()


def _boundary(request: Request[Any, Any, Any]) -> bytes:
    """With the hyphens of a delimiter; empty for a body that is no form."""
    media_type, options = request.content_type
    boundary = options.get("boundary")
    return b"--" + boundary.encode() if media_type == FORM and boundary else b""


async def _send(answer: Answer, send: Send) -> None:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
