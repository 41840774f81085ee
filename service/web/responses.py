"""Responses that are sent unchanged: JSON that PostgreSQL rendered, temporary files, and streams."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from os import SEEK_END
from typing import IO, Any, Generic, TypeVar

from litestar import Response
from litestar.types import Receive, Send

from service.etags import etag
from service.limits.budget import PIECE, RESPONSES_ON_DISK, clients_of

T = TypeVar("T")


class Rendered(Response[Any], Generic[T]):
    """A body that is already rendered, documented as a ``T``. It inherits from Response only for its type."""

    def __init__(
        self,
        body: str | bytes,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str = "application/json",
    ) -> None:
        self.rendered = body.encode() if isinstance(body, str) else body
        self.status = status
        self.extra_headers = headers or {}
        self.type = media_type.encode()

    async def answer(self, scope: Any, receive: Receive, send: Send) -> None:
        await self.start(send, len(self.rendered))
        await send({"type": "http.response.body", "body": self.rendered, "more_body": False})

    async def start(self, send: Send, length: int | None = None) -> None:
        """Sends the status and the headers. ``length`` is that of the body in bytes, if it is known."""
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.extra_headers.items()]
        if length != 0:
            headers.append((b"content-type", self.type))
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})


class FromFile(Rendered[Any]):
    """A body in a temporary file, which is sent in pieces as the client takes them, and then closed."""

    def __init__(self, file: IO[bytes], media_type: str, *, headers: Mapping[str, str]) -> None:
        super().__init__(b"", headers=headers, media_type=media_type)
        self.file = file

    async def answer(self, scope: Any, receive: Receive, send: Send) -> None:
        """Raises Overloaded, before anything is sent, when too many bytes wait for slow readers."""
        size = self.file.seek(0, SEEK_END)
        self.file.seek(0)
        with self.file, RESPONSES_ON_DISK.used_by(clients_of(scope), size):
            await self.start(send, size)
            for at in range(0, size, PIECE):
                more = at + PIECE < size
                await send({"type": "http.response.body", "body": self.file.read(PIECE), "more_body": more})


class Streamed(Rendered[Any]):
    """A body that is sent while it is made. ``pieces`` are closed when all are sent, when the client leaves, and when
    it reads too slowly. Replaces Litestar's Stream, which leaves them open then until they are collected as garbage."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], media_type: str, *, headers: Mapping[str, str]) -> None:
        super().__init__(b"", headers=headers, media_type=media_type)
        self.pieces = pieces

    async def answer(self, scope: Any, receive: Receive, send: Send) -> None:
        await self.start(send)
        if not await send_pieces(self.pieces, scope, receive, send):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def send_pieces(
    pieces: AsyncGenerator[bytes, None], scope: Any, receive: Receive, send: Send, end: asyncio.Event | None = None
) -> bool:
    """Sends ``pieces`` as they are made, until ``end`` is set or the client leaves, and closes them. Returns whether
    the client left. A HEAD request ends with the first part of the body, because Head restores its method then."""

    async def send_all() -> None:
        async with aclosing(pieces):
            while scope["method"] != "HEAD" and (piece := await anext(pieces, None)) is not None:
                await send({"type": "http.response.body", "body": piece, "more_body": True})

    async def wait_until_left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    sending, leaving = asyncio.create_task(send_all()), asyncio.create_task(wait_until_left())
    tasks: set[asyncio.Task[Any]] = {sending, leaving}
    if end is not None:
        tasks.add(asyncio.create_task(end.wait()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        has_left = leaving.done()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if not sending.cancelled():
        sending.result()  # raises its failure
    return has_left


def resource(row: Any, *, created_at: str | None = None, headers: Mapping[str, str] | None = None) -> Rendered[Any]:
    """The response for a row of (id, version, item), with its ETag. ``created_at`` is the URL of a new resource."""
    headers = {"etag": etag(row["id"], row["version"]), **(headers or {})}
    if created_at is None:
        return Rendered(row["item"], headers=headers)
    return Rendered(row["item"], status=201, headers=headers | {"location": created_at})


def emptied(row: Any) -> Response[None]:
    """The response for a deleted part of the resource in a row of (id, version, item), with the resource's new ETag."""
    return Response(None, status_code=204, headers={"etag": etag(row["id"], row["version"])})


def created(row: Any, location: str) -> Rendered[Any]:
    """The response for a new resource that has no versions."""
    return Rendered(row["item"], status=201, headers={"location": location})


def collection(rows: Sequence[Any]) -> Rendered[Any]:
    """A complete list, without pages."""
    return Rendered(f'{{"items":[{",".join([row["item"] for row in rows])}]}}')
