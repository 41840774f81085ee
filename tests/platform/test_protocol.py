"""What a connection may send before the service sees a request, as bytes on a socket."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from service.web import protocol
from service.web.protocol import MAX_HEAD, MAX_LINES, MAX_PIPELINED, BoundedProtocol

ROOT = Path(__file__).parents[2]
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = (
    b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
CLOSING = GET + b"Connection: close\r\n\r\n"
MUCH = 4 * 1024 * 1024  # bytes; more than the service and the sockets hold


@pytest.fixture
async def port(app: Any) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, http=BoundedProtocol, ws="none", timeout_keep_alive=1
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield listener.getsockname()[1]
        server.should_exit = True
        await serving


async def answer(port: int, start: bytes, piece: bytes = b"", count: int = 1) -> bytes:
    """All that the server sends before it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sending = asyncio.create_task(_send(writer, start, piece, count))
    received = b""
    try:
        async with asyncio.timeout(20):
            while some := await reader.read(65536):
                received += some
            return received
    except ConnectionError:
        return received
    finally:
        sending.cancel()
        writer.close()


async def _send(writer: asyncio.StreamWriter, start: bytes, piece: bytes, count: int) -> None:
    writer.write(start)
    for _ in range(count):
        writer.write(piece)
        await writer.drain()


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(b"GET /v1/characters?q=", b"a" * 4096, id="URL"),
        pytest.param(GET + b"X-A: ", b"a" * 4096, id="value of a header"),
        pytest.param(GET, b"a" * 4096, id="name of a header"),
        pytest.param(GET, b"X-A: b\r\n" * 500, id="many headers"),
    ],
)
async def test_a_head_without_end_is_refused(port: int, start: bytes, piece: bytes) -> None:
    head, _, body = (await answer(port, start, piece, MUCH // len(piece))).partition(b"\r\n\r\n")
    if head:  # a client that still sends may lose the answer
        assert head.startswith(b"HTTP/1.1 431 ")
        assert json.loads(body)["type"] == "/problems/headers-too-large"


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        pytest.param(b"", b"A" * 4096, id="method"),
        pytest.param(CHUNKED + b"1\r\n{\r\n0\r\n", b"X-A: b\r\n" * 500, id="trailers"),
        pytest.param(CHUNKED + b"0\r\nX-A: ", b"a" * 4096, id="value of a trailer"),
        pytest.param(CHUNKED + b"1\r\n{\r\n0\r\n", b"a" * 4096, id="name of a trailer"),
        pytest.param(CHUNKED + b"1;", b"a" * 4096, id="extension of a chunk"),
        pytest.param(CHUNKED + b"1\r\n{\r\n0;", b"a" * 4096, id="extension of the last chunk"),
        pytest.param(CHUNKED, b"0" * 4096, id="size of a chunk"),
    ],
)
async def test_the_connection_of_an_endless_request_ends(port: int, start: bytes, piece: bytes) -> None:
    began = time.monotonic()
    received = await answer(port, start, piece, MUCH // len(piece))
    assert received == b"" or received.startswith(b"HTTP/1.1 4")
    assert received.count(b"HTTP/1.1 ") <= 1
    assert time.monotonic() - began < 5, "before the time for a body is over"


@pytest.mark.parametrize("count", [1, 100])
async def test_trailers_change_nothing(port: int, count: int) -> None:
    """With X-Forwarded-For in the head, metrics are refused; a repeated Host is, too."""
    head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    trailers = b"X-Forwarded-For: 203.0.113.1\r\nX-Request-ID: of-a-trailer\r\nHost: elsewhere.example\r\n"
    received = await answer(port, head + trailers + b"X-A: b\r\n" * count + b"\r\n" + CLOSING)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"200"]
    assert b"of-a-trailer" not in received


@pytest.mark.parametrize("size", [1, 40])
async def test_a_body_may_come_in_many_small_parts(port: int, size: int) -> None:
    """Each read has the size of a part, or the part, as some clients send them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(CHUNKED)
    for _ in range(MAX_HEAD // 1000):
        writer.write(b"%x;%s\r\n" % (size, b"e" * 1000))
        await asyncio.sleep(0.001)
        writer.write(b" " * size + b"\r\n")
        await asyncio.sleep(0.001)
    writer.write(b"2\r\n{}\r\n0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 422")
    writer.close()


UPGRADE = b"Connection: Upgrade\r\nUpgrade: %s\r\n"


@pytest.mark.parametrize("protocol_name", [b"x", b"h2c", b"websocket", b"TLS/1.0"])
@pytest.mark.parametrize("length", [b"Content-Length: %d\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n%x\r\n"])
@pytest.mark.parametrize("pause", [0, 0.2])
async def test_an_upgrade_with_a_body_is_refused(port: int, protocol_name: bytes, length: bytes, pause: float) -> None:
    """Its body would be read as the next request."""
    smuggled = GET + b"\r\n"
    head = b"POST /v1/users HTTP/1.1\r\nHost: localhost\r\n" + UPGRADE % protocol_name + length % len(smuggled)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    await asyncio.sleep(pause)
    writer.write(smuggled + CLOSING)
    received = await reader.read()
    writer.close()
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"400"]
    problem = json.loads(received.partition(b"\r\n\r\n")[2])
    assert (problem["type"], problem["detail"]) == (
        "/problems/bad-request",
        "A request that offers an upgrade may not have a body.",
    )


@pytest.mark.parametrize("more", [b"", b"Content-Length: 0\r\n"])
async def test_an_upgrade_without_a_body_is_ignored(port: int, more: bytes) -> None:
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET + offer + more + b"\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.write(CLOSING)
    assert (await reader.read()).count(b"HTTP/1.1 200") == 1
    writer.close()


async def test_a_request_behind_an_upgrade_is_answered(port: int) -> None:
    received = await answer(port, (GET + UPGRADE % b"h2c" + b"\r\n") * 3 + CLOSING)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200"] * 4
    received = await answer(port, (GET + UPGRADE % b"h2c" + b"\r\n") * 2000)
    assert received.count(b"HTTP/1.1 200") <= MAX_PIPELINED


async def test_an_answered_request_has_no_second_answer(port: int) -> None:
    head = b"PUT /v1/users HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    first = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"X-A: b\r\n" * (MAX_LINES + 1))
    try:
        rest = await reader.read()
    except ConnectionError:
        rest = b""
    writer.close()
    assert first.startswith(b"HTTP/1.1 405")
    assert b"HTTP/1.1 " not in rest


async def test_few_requests_wait_on_a_connection(port: int) -> None:
    received = await answer(port, (GET + b"\r\n") * 20_000)
    assert received.count(b"HTTP/1.1 200") <= MAX_PIPELINED


async def test_a_head_may_begin_in_a_large_read(port: int) -> None:
    large = b"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    large += b"Content-Length: %d\r\n\r\n" % (3 * MAX_HEAD) + b" " * (3 * MAX_HEAD)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(large + GET)
    await asyncio.sleep(0.2)
    writer.write(b"Connection: close\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", await reader.read()) == [b"400", b"200"]
    writer.close()


async def test_requests_of_a_connection_are_answered_in_turn(port: int) -> None:
    received = await answer(port, (GET + b"\r\n") * 20 + GET + b"Connection: close\r\n\r\n")
    assert received.count(b"HTTP/1.1 200") == 21


@pytest.mark.parametrize("headers", [50, MAX_LINES - 1, MAX_LINES + 1])
async def test_the_number_of_headers(port: int, headers: int) -> None:
    """Up to 100 are accepted (service/web/middleware/size_limits.py); the parser stops above MAX_LINES."""
    start = GET + b"X-A: b\r\n" * (headers - 2) + b"Connection: close\r\n\r\n"
    assert (await answer(port, start)).startswith(b"HTTP/1.1 200" if headers == 50 else b"HTTP/1.1 431")


async def test_a_large_head_is_accepted_up_to_the_limit(port: int) -> None:
    start = GET + b"X-A: " + b"a" * (30 * 1024) + b"\r\nConnection: close\r\n\r\n"
    assert (await answer(port, start)).startswith(b"HTTP/1.1 200")
    assert len(start) < MAX_HEAD


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        pytest.param(b"", b"HTTP/1.1 408", id="nothing"),
        pytest.param(b"GET /health/live HT", b"HTTP/1.1 408", id="half a head"),
        pytest.param(b"\r\n\r\n", b"HTTP/1.1 408", id="empty lines"),
        pytest.param(GET + b"\r\n\r\n", b"HTTP/1.1 200", id="empty lines after a request"),
        pytest.param(GET + b"\r\nGET /", b"HTTP/1.1 200", id="half a head after a request"),
    ],
)
async def test_a_head_must_arrive_in_time(
    port: int, sent: bytes, received: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_PATIENCE", 0.2)
    assert (await answer(port, sent)).startswith(received)


async def test_an_answer_is_not_cut_by_a_slow_head(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_PATIENCE", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(CHUNKED + b"1\r\n{\r\n")  # its body takes longer than a head may
    await asyncio.sleep(0.3)
    writer.write(b"1\r\n}\r\n0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 422")
    writer.close()


@pytest.mark.parametrize("file", ["Procfile", "deploy/Dockerfile", "deploy/systemd/characters-web.service"])
def test_every_command_uses_the_bounds(file: str) -> None:
    commands = [line for line in (ROOT / file).read_text("utf-8").splitlines() if "uvicorn service.app:app" in line]
    assert commands
    assert all(f"--http {BoundedProtocol.__module__}:{BoundedProtocol.__name__} " in line for line in commands)
