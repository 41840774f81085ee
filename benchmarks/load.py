"""A load generator that is light enough to share a core with PostgreSQL. It uses plain sockets, and each connection has
one request at a time.

In a closed loop, each connection sends the next request as soon as it has the answer: this measures throughput. With
``rate``, requests are due at a fixed rate, and a latency starts when its request is due, even if no connection is free:
this measures how long clients wait. The generator runs in a process of its own (``python -m benchmarks.load``), which
reads a Job and writes a Result as JSON.
"""

import selectors
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence

import msgspec

from benchmarks.cores import Core, pinned_to

ETAG = b"{etag}"


class Request(msgspec.Struct):
    """``data`` is sent as it is, except that ``{etag}`` becomes the latest ETag that the connection has received."""

    data: bytes
    status: int = 200


class Job(msgspec.Struct):
    port: int
    requests: list[list[Request]]  # by connection, which repeats them in turn
    seconds: float
    warm_up: float = 0.5  # seconds, not counted
    rate: float | None = None  # a second, of all connections together; None for a closed loop
    etags: list[bytes] = []


class Result(msgspec.Struct):
    answers: int  # in all, also while warming up
    per_second: float
    latencies: list[float]  # seconds, sorted
    failures: int
    failure: str  # the first of them

    def at(self, share: float) -> float:
        """The quantile of the latencies, in milliseconds."""
        if not self.latencies:
            return float("nan")
        return 1000 * self.latencies[min(len(self.latencies) - 1, int(share * len(self.latencies)))]


def run(job: Job, core: Core) -> Result:
    """Raises RuntimeError when an answer has an unexpected status."""
    done = subprocess.run(
        pinned_to(core, [sys.executable, "-m", "benchmarks.load"]),
        input=msgspec.json.encode(job),
        stdout=subprocess.PIPE,
        check=True,
        timeout=job.seconds + job.warm_up + 60,
    )
    result = msgspec.json.decode(done.stdout, type=Result)
    if result.failures:
        raise RuntimeError(f"{result.failures} answers had an unexpected status; the first: {result.failure}")
    return result


class _Connection:
    def __init__(self, port: int, requests: Sequence[Request], etag: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = requests
        self.etag = etag
        self.next = 0
        self.expected = 0
        self.began = 0.0
        self.received = b""

    def send(self, began: float) -> None:
        request = self.requests[self.next]
        self.next = (self.next + 1) % len(self.requests)
        self.expected = request.status
        self.began = began
        self.socket.sendall(request.data.replace(ETAG, self.etag) if self.etag else request.data)

    def receive(self) -> bytes | None:
        """The answer, or None while it is incomplete."""
        chunk = self.socket.recv(262_144)
        if not chunk:
            raise ConnectionError("The server closed a connection.")
        self.received = self.received + chunk if self.received else chunk
        end = self.received.find(b"\r\n\r\n")
        if end < 0 or len(self.received) < end + 4 + _length(self.received[:end]):
            return None
        answer, self.received = self.received, b""
        if self.etag:
            self.etag = _header(answer[:end], b"etag") or self.etag
        return answer


class _Load:
    def __init__(self, job: Job) -> None:
        self.job = job
        etags = job.etags or [b""] * len(job.requests)
        self.idle = deque(_Connection(job.port, each, etag) for each, etag in zip(job.requests, etags, strict=True))
        self.selector = selectors.DefaultSelector()
        for connection in self.idle:
            self.selector.register(connection.socket, selectors.EVENT_READ, connection)
        self.answers = 0
        self.latencies: list[float] = []
        self.failures = 0
        self.failure = ""

    def run(self) -> Result:
        begin = time.perf_counter()
        counted, end = begin + self.job.warm_up, begin + self.job.warm_up + self.job.seconds
        due, interval = begin, 1 / self.job.rate if self.job.rate else 0.0
        connections = len(self.idle)
        while (now := time.perf_counter()) < end or len(self.idle) < connections:
            while self.idle and now < end and due <= now:
                self.idle.popleft().send(due if interval else now)
                due += interval
            wait = max(0.0, due - now) if interval and self.idle and now < end else 0.5
            for key, _ in self.selector.select(wait):
                if (answer := key.data.receive()) is not None:
                    self._count(key.data, answer, counted, end)
                    self.idle.append(key.data)
        per_second = len(self.latencies) / self.job.seconds
        return Result(self.answers, per_second, sorted(self.latencies), self.failures, self.failure)

    def _count(self, connection: _Connection, answer: bytes, counted: float, end: float) -> None:
        now = time.perf_counter()
        self.answers += 1
        if int(answer[9:12]) != connection.expected:
            self.failures += 1
            self.failure = self.failure or answer[:1000].decode(errors="replace")
        elif counted <= now < end:
            self.latencies.append(now - connection.began)


def _length(head: bytes) -> int:
    """The length of the body. Raises ValueError without Content-Length: no measured answer is chunked."""
    if head[9:12] in (b"204", b"304"):
        return 0
    length = _header(head, b"content-length")
    if length is None:
        raise ValueError(f"No Content-Length: {head!r}")
    return int(length)


def _header(head: bytes, name: bytes) -> bytes | None:
    at = head.find(b"\n" + name + b": ")
    if at < 0:
        at = head.lower().find(b"\n" + name + b": ")
    if at < 0:
        return None
    end = head.find(b"\r", at)
    return head[at + len(name) + 3 : end if end >= 0 else None]


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_Load(msgspec.json.decode(sys.stdin.buffer.read(), type=Job)).run()))
