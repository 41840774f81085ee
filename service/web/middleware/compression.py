"""Compresses response bodies with Brotli or gzip, as the client prefers."""

import asyncio
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

import brotli
from litestar.types import ASGIApp, Message, Receive, Send

from service.web.middleware.headers import Headers, list_header

IN_THREAD = 128 * 1024  # bytes, of which gzip takes 4 ms; both compressors release the GIL
SMALLEST = 500  # bytes; a smaller response fits into one packet anyway

_TEXT = re.compile(
    rb"text/(?!event-stream)|application/(?:[\w.-]+\+)?(?:json|javascript|x-ndjson|xml)\b|image/svg\+xml"
)
_WEIGHT = re.compile(rb"\s*;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*")
_WITHOUT = frozenset({204, 206, 304})  # no body, or a range of its bytes


class _Brotli:
    def __init__(self) -> None:
        # The next quality takes twice the time and saves one percent
        compressor = brotli.Compressor(quality=3, lgwin=18)
        self.compress, self.flush = compressor.process, compressor.finish


_COMPRESSORS: dict[bytes, Any] = {b"br": _Brotli, b"gzip": partial(zlib.compressobj, 5, wbits=31)}


@lru_cache(maxsize=256)
def preferred(accept_encoding: bytes) -> bytes | None:
    """The encoding that an Accept-Encoding header prefers; None for no compression."""
    weights = {}
    for each in accept_encoding.lower().split(b","):
        name, semicolon, parameters = each.partition(b";")
        weight = _WEIGHT.fullmatch(semicolon + parameters)
        weights[name.strip()] = float(weight[1]) if weight else 0.0 if semicolon else 1.0
    others = weights.get(b"*", 0.0)
    best = max(_COMPRESSORS, key=lambda name: weights.get(name, others))
    return best if weights.get(best, others) > weights.get(b"identity", 0.0) else None


def is_worth_it(status: int, headers: Headers) -> bool:
    """Whether the response is text, and large or of unknown size."""
    given = dict(headers)
    return (
        status not in _WITHOUT
        and b"content-encoding" not in given
        and _TEXT.match(given.get(b"content-type", b"")) is not None
        and int(given.get(b"content-length", SMALLEST)) >= SMALLEST
    )


class Compression:
    """Compresses responses that are worth it, in the encoding that the client prefers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        accepted = list_header(scope, b"accept-encoding")
        encoding = None if accepted is None else preferred(accepted)
        if encoding is None:
            await self.app(scope, receive, send)
            return
        start: Any = None
        body: _CompressedBody | None = None

        async def send_compressed(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                if is_worth_it(start["status"], start["headers"]):
                    body = _CompressedBody(encoding, start)
                else:
                    await send(start)
                start = None
            for each in await body.messages(message) if body else (message,):
                await send(each)

        await self.app(scope, receive, send_compressed)


class _CompressedBody:
    """One compressed response. Its start waits for the first compressed bytes, which may be all."""

    def __init__(self, encoding: bytes, start: Any) -> None:
        self.start = start
        self.encoding = encoding
        self.compressor = _COMPRESSORS[encoding]()

    async def messages(self, message: Any) -> Iterable[Any]:
        """The messages to send for this part of the body; none while the compressor buffers it."""
        ends = not message.get("more_body", False)
        part = message.get("body", b"")
        if len(part) > IN_THREAD:
            return self._messages(message, await asyncio.to_thread(self._compressed, part, ends), ends)
        return self._messages(message, self._compressed(part, ends), ends)

    def _compressed(self, part: bytes, ends: bool) -> bytes:
        compressed: bytes = self.compressor.compress(part)
        return compressed + self.compressor.flush() if ends else compressed

    def _messages(self, message: Any, body: bytes, ends: bool) -> Iterator[Any]:
        if self.start is not None:
            headers = [header for header in self.start["headers"] if header[0] != b"content-length"]
            headers.append((b"content-encoding", self.encoding))
            if ends:
                headers.append((b"content-length", str(len(body)).encode()))
            yield self.start | {"headers": headers}
            self.start = None
        if body or ends:
            yield message | {"body": body}
