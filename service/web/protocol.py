"""Uvicorn's HTTP protocol with bounds on what arrives before the service sees a request.

httptools gathers a request line and headers of any size, for as long as a client sends them. ``size_limits`` checks
them only once they are complete. Processes start with ``--http service.web.protocol:BoundedProtocol``.
"""

import asyncio
import sys
from typing import Any, NoReturn

import msgspec
from httptools import HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import BadRequest, HeadersTooLarge, RequestTimeout, ServiceError
from service.web.middleware.headers import Headers

MAX_HEAD = 64 * 1024  # bytes of a request line with headers; one read of the socket more may be parsed
MAX_LINES = 200  # headers and trailers of a request
MAX_PIPELINED = 100  # requests that wait on a connection
HEAD_PATIENCE = 30.0  # seconds in which the head of a request must arrive


class _TooMuch(Exception):
    """Raised in a callback of the parser, which then stops."""


class BoundedProtocol(HttpToolsProtocol):
    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._in_message = False
        self._in_head = False
        self._head_size = 0
        self._read = b""
        self._read_size = 0
        self._lines = 0
        self._fault: ServiceError | None = None  # for which the parser stopped
        self._is_refused = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._read, self._read_size = data, len(data)
        super().data_received(data)
        self._read = b""
        if self._in_message:
            self._head_size += self._read_size
            if self._head_size > MAX_HEAD:
                self._refuse(HeadersTooLarge(f"The request line and the headers are larger than {MAX_HEAD} bytes."))
        if self._in_head or self._is_idle():  # also after empty lines, after which uvicorn has no time-out
            self._await_head()
        else:
            self._stop_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_message = self._in_head = True
        self._lines = 0
        self._begin_to_count()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        if self._lines > MAX_LINES:
            self._stop(HeadersTooLarge(f"The request has more than {MAX_LINES} headers."))
        if self._in_head:  # not a trailer, which could pretend to be a header that a proxy sets
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and _has_body(self.headers):  # which the parser would read as a request
            self._stop(BadRequest("A request that offers an upgrade may not have a body."))
        self._in_head = False
        self._begin_to_count()
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self._stop(None)

    def on_body(self, body: bytes) -> None:
        self._begin_to_count()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def _begin_to_count(self) -> None:
        """Counts the bytes of the head, and of what comes between parts of the body and after it: the sizes of chunks
        with their extensions, and trailers. A read may bring much of something else in front of them."""
        self._head_size = -self._read_size

    def _stop(self, fault: ServiceError | None) -> NoReturn:
        self._fault = fault
        raise _TooMuch

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's answer when the parser stops."""
        if self._fault is not None:
            self._refuse(self._fault)
        elif self.pipeline or (not self._is_idle() and self.cycle.response_started):
            self._end()
        else:
            super().send_400_response(msg)

    def _unsupported_upgrade_warning(self) -> None:
        """Uvicorn calls this for an offer of an upgrade, which a server may ignore (RFC 9110, section 7.8). The parser
        has stopped after it, and what follows in this read is the next request."""
        offer = sys.exception()
        if isinstance(offer, HttpParserUpgrade) and (rest := self._read[offer.args[0] :]):
            self._read = rest
            super().data_received(rest)

    def _is_idle(self) -> bool:
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    def _await_head(self) -> None:
        if self._timer is None and not self.transport.is_closing():
            self._timer = self.loop.call_later(HEAD_PATIENCE, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.transport.get_protocol() is not self or self.transport.is_closing():
            return
        if self._is_idle():
            self._refuse(RequestTimeout(f"The request did not arrive within {HEAD_PATIENCE:g} seconds."))
        else:
            self._await_head()  # an earlier request on this connection is still answered

    def _refuse(self, error: ServiceError) -> None:
        """Answers with a problem document, unless a request on this connection is being answered, or the body of an
        answered one is still arriving."""
        if not self._is_idle() or (self._in_message and not self._in_head):
            self._end()
            return
        body = msgspec.json.encode(
            {"type": f"/problems/{error.slug}", "title": error.title(), "status": error.status, "detail": error.detail}
        )
        head = f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[error.status] + head.encode() + body)
        self._is_refused = True
        self.transport.close()

    def _end(self) -> None:
        self._is_refused = True
        self.transport.abort()


def _has_body(headers: Headers) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0") for name, value in headers
    )
