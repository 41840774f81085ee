"""Uvicorn's HTTP protocol with bounds on what arrives before the service sees a request.

httptools gathers a request line and headers of any size, for as long as a client sends them. ``size_limits`` checks
them only once they are complete. Processes start with ``--http service.web.protocol:BoundedProtocol``.
"""

import asyncio
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import HeadersTooLarge, RequestTimeout, ServiceError

MAX_HEAD = 64 * 1024  # bytes of a request line with headers; one read of the socket more may be parsed
MAX_LINES = 200  # headers and trailers of a request
MAX_PIPELINED = 100  # requests that wait on a connection
HEAD_PATIENCE = 30.0  # seconds in which the head of a request must arrive


class _TooMuch(Exception):
    """Raised in a callback of the parser, which then stops."""


class BoundedProtocol(HttpToolsProtocol):
    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._in_head = False
        self._head_size = 0
        self._read_size = 0
        self._lines = 0
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
        self._read_size = len(data)
        super().data_received(data)
        if self._in_head:
            self._head_size += self._read_size
            if self._head_size > MAX_HEAD:
                self._refuse(HeadersTooLarge(f"The request line and the headers are larger than {MAX_HEAD} bytes."))
            self._await_head()
        elif self._is_idle():  # empty lines, after which uvicorn has no time-out
            self._await_head()
        else:
            self._head_size = 0
            self._stop_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._lines = True, 0
        self._head_size = -self._read_size  # a read may bring much of earlier requests in front of a head

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        if self._lines > MAX_LINES:
            raise _TooMuch
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            raise _TooMuch

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's answer when the parser stops."""
        if self._lines > MAX_LINES:
            self._refuse(HeadersTooLarge(f"The request has more than {MAX_LINES} headers."))
        elif self.pipeline or (not self._is_idle() and self.cycle.response_started):
            self._end()
        else:
            super().send_400_response(msg)

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
        """Answers with a problem document, unless an earlier request on this connection is being answered."""
        if not self._is_idle():
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
