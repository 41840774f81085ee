"""Uploads: a large body is written to a temporary file while it arrives, so that slow clients use no memory.

Once it is complete, it waits until the worker has the memory to process it.
"""

import asyncio
from tempfile import SpooledTemporaryFile
from typing import Any

from litestar.types import ASGIApp, Receive, Send

from service.errors import Overloaded, TooLarge
from service.limits.budget import UPLOADS_IN_MEMORY, UPLOADS_ON_DISK, Clients, clients_of
from service.web.middleware.headers import request_header

SMALL = 64 * 1024  # bytes; a smaller body is passed on as it arrives
LARGEST = 50 * 1024**2  # bytes of a body where no route says how many it accepts
PIECE = 256 * 1024
PATIENCE = 10.0  # seconds in which there must be memory for a complete body

_TOO_MANY = "Too many uploads are arriving."


class Uploads:
    """Sets ``state["read_again"]`` for a large body: after it, ``receive`` begins with the first byte again."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.freed = asyncio.Event()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        announced = _announced(scope)
        is_read = scope["method"] in ("GET", "HEAD")  # no such route reads a body; a stream would keep it to its end
        if announced is None or is_read or not scope["path"].startswith("/v1"):
            await self.app(scope, receive, send)
            return
        upload = _Upload(self, scope, receive, announced)
        scope["state"]["read_again"] = upload.read_again
        try:
            await self.app(scope, upload.receive, send)
        finally:
            upload.close()

    async def take_memory(self, clients: Clients, size: int) -> None:
        """Waits until there is memory. Raises Overloaded after PATIENCE seconds."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not UPLOADS_IN_MEMORY.take(clients, size):
                    await self.freed.wait()
        except TimeoutError:
            raise Overloaded("Too many uploads are being processed.") from None

    def give_memory_back(self, clients: Clients, size: int) -> None:
        UPLOADS_IN_MEMORY.give_back(clients, size)
        freed, self.freed = self.freed, asyncio.Event()
        freed.set()


def _announced(scope: Any) -> int | None:
    """The announced size of a large body, 0 if it is not known, None for a small body or none."""
    length = request_header(scope, b"content-length")
    if length is None:
        return None if request_header(scope, b"transfer-encoding") is None else 0
    size = int(length) if length.isdigit() else 0
    return None if size <= SMALL else size


def _largest(scope: Any) -> int:
    """The most bytes that the matched route accepts. The router has run when a handler reads the body."""
    handler = scope.get("route_handler")
    return LARGEST if handler is None else handler.resolve_request_max_body_size() or LARGEST


def _is_gathered(scope: Any) -> bool:
    """Whether the body will be in memory as a whole, as JSON is. A route with ``one_file_at_a_time`` reads each file
    when its turn has come."""
    handler = scope.get("route_handler")
    return handler is None or not handler.opt.get("one_file_at_a_time")


class _Upload:
    """``receive`` of one request."""

    def __init__(self, uploads: Uploads, scope: Any, receive: Receive, announced: int) -> None:
        self.uploads = uploads
        self.clients: Clients = ()
        self.announced = announced
        self.scope = scope
        self.on_disk = self.in_memory = 0
        self._receive = receive
        self._file: SpooledTemporaryFile[bytes] | None = None
        self._left = self._size = 0
        self._largest = LARGEST

    async def receive(self) -> Any:
        """Raises TooLarge as soon as the body is larger than its route accepts, and Overloaded, if possible before
        anything is read, when too many bytes of this address, of this user or of all have arrived. Announced bytes do
        not count until they arrive: a client that sends nothing keeps no other from uploading."""
        if self._file is None:
            self._largest, self.clients = _largest(self.scope), clients_of(self.scope)
            if self.announced > self._largest:
                raise TooLarge.over(self._largest)
            if not UPLOADS_ON_DISK.fits(self.clients, self.announced):
                raise Overloaded(_TOO_MANY)
            self._file = SpooledTemporaryFile(max_size=SMALL)  # noqa: SIM115 (closed by close)
            await self._spool(self._file)
            if _is_gathered(self.scope):
                await self.uploads.take_memory(self.clients, self._left)
                self.in_memory = self._left
        elif not self._left:
            return await self._receive()  # waits for the client to disconnect
        piece = self._file.read(PIECE)
        self._left -= len(piece)
        return {"type": "http.request", "body": piece, "more_body": self._left > 0}

    async def _spool(self, file: "SpooledTemporaryFile[bytes]") -> None:
        more = True
        while more:
            message: Any = await self._receive()
            body = message.get("body", b"")
            self._left += len(body)
            if self._left > self._largest:
                raise TooLarge.over(self._largest)
            self._take_disk(len(body))
            file.write(body)
            more = message.get("more_body", False)
        self._size = self._left
        file.seek(0)

    def read_again(self) -> None:
        if self._file is not None:
            self._file.seek(0)
            self._left = self._size

    def _take_disk(self, size: int) -> None:
        if not UPLOADS_ON_DISK.take(self.clients, size):
            raise Overloaded(_TOO_MANY)
        self.on_disk += size

    def close(self) -> None:
        if self.on_disk:
            UPLOADS_ON_DISK.give_back(self.clients, self.on_disk)
        if self.in_memory:
            self.uploads.give_memory_back(self.clients, self.in_memory)
        if self._file is not None:
            self._file.close()
