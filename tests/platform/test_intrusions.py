"""Attacks on the HTTP layer, which are refused."""

import socket

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.conftest import character, faults
from tests.support.servers import Service

SMUGGLED = "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Host", ("evil.example", "localhost")),
        ("Host", ("localhost", "evil.example")),
        ("Host", ("localhost", "localhost")),
        ("Content-Type", ("multipart/form-data; boundary=x", "application/json")),
        ("Content-Type", ("application/json", "application/json")),
        ("Content-Length", ("2", "3")),
        ("Transfer-Encoding", ("chunked", "chunked")),
        ("Authorization", ("Bearer a", "Bearer b")),
        ("Idempotency-Key", ("a", "b")),
        ("Origin", ("https://app.example.org", "https://evil.example")),
        ("X-CSRFToken", ("a", "b")),
        ("X-Request-ID", ("a", "b")),
        ("User-Agent", ("a", "b")),
    ],
)
async def test_a_repeated_header_is_refused(stranger: httpx.AsyncClient, name: str, values: tuple[str, str]) -> None:
    for method, path in (("GET", "/admin/public/meta"), ("POST", "/v1/characters"), ("GET", "/health/live")):
        headers = [(name, value) for value in values]
        request = stranger.build_request(method, path, headers=headers)
        if name != "Host":
            request.headers = httpx.Headers([("Host", "localhost"), *headers])
        answer = await stranger.send(request)
        assert (answer.status_code, faults(answer)) == (400, {name: "Must be given only once."})


async def test_a_header_that_is_a_list_may_be_repeated(stranger: httpx.AsyncClient) -> None:
    for name in ("Accept", "Accept-Language", "If-None-Match", "X-Forwarded-For", "Via"):
        answer = await stranger.get("/v1/characters", headers=[("Host", "localhost"), (name, '"a"'), (name, '"b"')])
        assert answer.status_code == 200


async def test_every_part_reads_the_same_list(alice: httpx.AsyncClient) -> None:
    """A condition that was split into two headers counts as a whole."""
    made = await character(alice)
    path, etag = f"/v1/characters/{made['id']}", f'"{made["id"]}-1"'
    for values in ((etag, '"other"'), ('"other"', etag)):
        given = [("Host", "localhost"), *alice.headers.items(), *(("If-None-Match", value) for value in values)]
        assert (await alice.get(path, headers=given)).status_code == 304
    for number, values in enumerate(((etag, '"other"'), ('"other"', f'"{made["id"]}-2"')), 1):
        given = [("Host", "localhost"), *alice.headers.items(), *(("If-Match", value) for value in values)]
        changed = await alice.patch(path, headers=given, json={"name": f"Mira {number}"})
        assert changed.status_code == 200, changed.text
    given = [("Host", "localhost"), *alice.headers.items(), ("If-Match", "nonsense"), ("If-Match", "*")]
    assert (await alice.patch(path, headers=given, json={"name": "Mira"})).status_code == 400


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


NO_NAMES = {
    "NUL": "%00",
    "NUL inside": "a%00b",
    "300 letters": "x" * 300,
    "300 letters of two bytes": "%C3%A9" * 150,
    "5,000 letters": "x" * 5_000,
    "2,000 directories": "a/" * 2_000,
    "not UTF-8": "%FF",
    "a surrogate": "%ED%A0%80",
    "a line feed": "a%0Ab",
    "a device": "con",
    "absolute": "%2Fetc%2Fpasswd",
    "below a file": "swagger-ui-bundle.js/x",
}


@pytest.mark.parametrize("root", ["/docs-assets", "/media", "/admin", "/admin/assets", "/problems", "/v1/users"])
async def test_a_name_that_no_file_has_is_not_found(stranger: httpx.AsyncClient, root: str) -> None:
    for kind, name in NO_NAMES.items():
        assert (await stranger.get(f"{root}/{name}")).status_code == 404, kind


@pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")
async def test_an_operator_finds_no_picture_under_a_name_that_no_file_has(operator: httpx.AsyncClient) -> None:
    for kind, name in NO_NAMES.items():
        assert (await operator.get(f"/admin/api/pictures/{name}")).status_code == 404, kind


PATHS = (
    "/", "/docs", "/docs-assets/none.js", "/health/live", "/metrics", "/openapi.json", "/problems/", "/v1/characters",
    "/v1/nowhere", "/media/none", "/admin", "/admin/", "/admin/public/meta", "/nowhere",
)  # fmt: skip


@pytest.mark.parametrize(
    "host",
    [
        "localhost:99999999", "localhost:65536", "localhost:", "localhost:-1", "localhost:+1", "localhost:1x",
        "localhost:80:80", ":80", "[::1]:65536", "[::1", "::1", "[::1]x", "[]", "[v1.x]", "localhost@localhost",
        "localhost/docs", "localhost?", "localhost#", "localhost\\", "local host", "localhost:\xb2", "local\xe9host",
        "localhost,localhost", "localhost%00",
    ],
)  # fmt: skip
async def test_a_malformed_host_is_refused(stranger: httpx.AsyncClient, host: str) -> None:
    for path in PATHS:
        answer = await stranger.get(path, headers=[("Host", host.encode("latin-1"))])
        assert (answer.status_code, answer.json()["type"]) == (400, "/problems/bad-request"), path


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:65535", "[::1]", "[::1]:80"])
async def test_a_host_may_have_a_port(stranger: httpx.AsyncClient, host: str) -> None:
    for path in ("/health/live", "/v1/characters", "/admin/"):
        assert (await stranger.get(path, headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("host", ["localhost:99999999", "elsewhere.example", "[::1", ""])
async def test_a_forwarded_host_is_ignored(stranger: httpx.AsyncClient, host: str) -> None:
    for path in {*PATHS} - {"/metrics"}:  # which no proxy may read
        plain, forwarded = await stranger.get(path), await stranger.get(path, headers={"X-Forwarded-Host": host})
        assert forwarded.status_code == plain.status_code
        assert forwarded.headers.get("location") == plain.headers.get("location")
