"""Attacks on the HTTP layer, which are refused."""

import socket

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.servers import Service

SMUGGLED = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("hosts", [("evil.example", "localhost"), ("localhost", "evil.example"), ("localhost",) * 2])
async def test_two_host_headers_are_refused(stranger: httpx.AsyncClient, hosts: tuple[str, str]) -> None:
    for path in ("/admin/public/meta", "/v1/characters", "/health/live"):
        answer = await stranger.get(path, headers=[("Host", host) for host in hosts])
        assert (answer.status_code, answer.json()["detail"]) == (400, "There is more than one Host header.")


def test_a_websocket_is_refused_first(running_service: Service) -> None:
    for path in ("/admin", "/v1/characters"):
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"{running_service.url.replace('http', 'ws')}{path}")
    assert "Traceback" not in running_service.output


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Content-Length: 4\r\nContent-Length: 5",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "X-Padding: a\r\n Transfer-Encoding: chunked",
    ],
)
def test_request_smuggling_is_refused(running_service: Service, headers: str) -> None:
    """A proxy that interprets the length differently would not see the second request."""
    request = f"POST /v1/users HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n0\r\n\r\n{SMUGGLED}"
    with socket.create_connection(("127.0.0.1", running_service.port), timeout=5) as connection:
        connection.sendall(request.encode())
        answers = b""
        while piece := connection.recv(65536):
            answers += piece
    assert answers.startswith(b"HTTP/1.1 400 ")
    assert answers.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("up", ["..", "%2e%2e", "..%2f..", "%2e%2e%2f", "..%5c"])
@pytest.mark.parametrize("root", ["/docs-assets", "/admin/assets"])
async def test_path_traversal_is_refused(stranger: httpx.AsyncClient, root: str, up: str) -> None:
    for name in ("endpoints.py", "__init__.py", "pyproject.toml"):
        assert (await stranger.get(f"{root}/{up}/{name}")).status_code == 404
