"""Every answer has its id and the security headers; also hosts, CORS, problems, metrics and proxies."""

import re
from collections.abc import Callable, Iterator
from html import escape, unescape
from typing import Any

import httpx
import msgspec
import pytest
from litestar.types import ASGIApp, Send

from service.errors import PROBLEMS, Problem
from service.web.middleware.compression import Compression
from service.web.middleware.conditional import Conditional, Head
from service.web.middleware.cors import Cors
from tests.conftest import application
from tests.support.servers import Service, piccolo, service_of_its_own

OURS, FOREIGN = "https://app.example.org", "https://evil.example.org"

ANSWERS = [  # one of each kind: method, path, body, status
    ("GET", "/v1/characters", None, 200),
    ("HEAD", "/v1/characters", None, 200),
    ("OPTIONS", "/v1/characters", None, 204),
    ("GET", "/docs", None, 200),
    ("GET", "/openapi.json", None, 200),
    ("GET", "/problems/not-found", None, 200),
    ("GET", "/docs/guide", None, 200),
    ("GET", "/admin/", None, 200),
    ("GET", "/admin", None, 307),
    ("GET", "/", None, 302),
    ("GET", "/health/live", None, 200),
    ("GET", "/v1/characters?limit=0", None, 400),
    ("POST", "/v1/users", b"{", 400),
    ("GET", "/v1/users/me", None, 401),
    ("GET", "/v1/users/nobody-there", None, 404),
    ("GET", "/v1/nowhere", None, 404),
    ("GET", "/nowhere", None, 404),
    ("OPTIONS", "/nowhere", None, 404),
    ("PUT", "/v1/characters", None, 405),
    ("POST", "/health/live", None, 405),
    ("POST", "/v1/users", b"[" + b" " * 1024 * 1024 + b"]", 413),
    ("POST", "/v1/users", b"{}", 422),
]
PROBLEMATIC = [answer for answer in ANSWERS if answer[3] >= 400]


async def ask(stranger: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int) -> httpx.Response:
    headers = {"Content-Type": "application/json"} if body else {}
    answer = await stranger.request(method, path, content=body, headers=headers)
    assert answer.status_code == status
    return answer


async def test_redirects_and_answers_to_options_have_no_body_and_no_type(stranger: httpx.AsyncClient) -> None:
    empty = [answer for answer in ANSWERS if 204 <= answer[3] < 400]
    assert {status for *_, status in empty} == {204, 302, 307}
    for method, path, body, status in empty:
        answer = await ask(stranger, method, path, body, status)
        assert (answer.content, answer.headers.get("content-type")) == (b"", None), path


@pytest.mark.parametrize(("method", "path", "body", "status"), ANSWERS)
async def test_every_answer_has_security_headers(
    stranger: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int
) -> None:
    answer = await ask(stranger, method, path, body, status)
    for name, value in {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
        "Cross-Origin-Resource-Policy": "same-site",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Embedder-Policy": "require-corp",
        "X-Permitted-Cross-Domain-Policies": "none",
        "X-DNS-Prefetch-Control": "off",
    }.items():
        assert answer.headers.get_list(name) == [value]
    assert len(answer.headers["X-Request-ID"]) == 36
    [policy] = answer.headers.get_list("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
    assert "unsafe" not in policy
    assert ("script-src" in policy) == (path in ("/docs", "/admin/"))
    assert ("blob:" in policy) == (path == "/docs"), "only this page shows what its script has downloaded"
    assert "camera=()" in answer.headers["Permissions-Policy"]
    assert answer.headers["Cache-Control"]
    assert "Server" not in answer.headers


@pytest.mark.parametrize(("method", "path", "body", "status"), PROBLEMATIC)
async def test_every_refusal_is_a_problem(
    stranger: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int
) -> None:
    answer = await ask(stranger, method, path, body, status)
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) - {"errors"} == {"type", "title", "status", "detail", "instance", "request_id"}
    kind = PROBLEMS[problem["type"].removeprefix("/problems/")]
    assert (problem["status"], problem["title"]) == (status, kind.title()) == (kind.status, kind.title())
    assert problem["instance"] == path.partition("?")[0]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert problem["detail"].endswith(".")
    assert (await stranger.get(problem["type"])).status_code == 200


async def test_an_internal_error_shows_only_its_id(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError("secret internals")

    monkeypatch.setattr("service.users.queries.get_user", fail)
    answer = await stranger.get("/v1/users/anybody", headers={"X-Request-ID": "the-failing-one"})
    assert answer.status_code == 500
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json() == {
        "type": "/problems/internal",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "The service failed to handle the request. The error was logged with the request id.",
        "instance": "/v1/users/anybody",
        "request_id": "the-failing-one",
    }
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_failure_before_the_body_becomes_a_problem(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: object, scope: object, receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        raise ZeroDivisionError

    monkeypatch.setattr("service.web.responses.Rendered.answer", fail)
    answer = await stranger.get("/v1/characters")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal")


async def test_a_refusal_of_middleware_is_compressed_and_has_the_headers_of_every_answer(
    stranger: httpx.AsyncClient,
) -> None:
    headers = {"Host": "evil.example.org", "Origin": OURS, "Accept-Encoding": "br", "X-Request-ID": "refused"}
    answer = await stranger.get("/" + "a" * 900, headers=headers)
    assert (answer.status_code, answer.json()["request_id"]) == (400, "refused")
    assert answer.headers["Content-Encoding"] == "br"
    assert answer.headers["Access-Control-Allow-Origin"] == OURS
    assert answer.headers.get_list("Vary") == ["Accept-Encoding, Origin"]
    assert answer.headers.get_list("X-Request-ID") == ["refused"]
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("layer", [Compression, Conditional, Head])
async def test_middleware_without_work_does_not_wrap_send(layer: Callable[[ASGIApp], ASGIApp]) -> None:
    async def send(_: object) -> None: ...

    async def is_wrapped(method: str, *headers: tuple[bytes, bytes]) -> bool:
        given: list[object] = []

        async def app(_: object, __: object, inner: object) -> None:
            given.append(inner)

        scope: Any = {"type": "http", "method": method, "headers": headers}
        await layer(app)(scope, send, send)
        return given != [send]

    match, brotli = (b"if-none-match", b"*"), (b"accept-encoding", b"br")
    assert not await is_wrapped("GET")
    assert not await is_wrapped("POST", match, (b"accept-encoding", b"identity"))
    assert await is_wrapped("HEAD" if layer is Head else "GET", match, brotli)


@pytest.mark.parametrize("slug", sorted(PROBLEMS))
async def test_every_problem_has_a_page(stranger: httpx.AsyncClient, slug: str) -> None:
    page = await stranger.get(f"/problems/{slug}")
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert f"{PROBLEMS[slug].status.value} {PROBLEMS[slug].title()}" in page.text
    assert f'href="/problems/{slug}"' in (await stranger.get("/problems/")).text
    [example] = re.findall("<pre>(.*?)</pre>", page.text, re.S)
    problem = msgspec.json.decode(unescape(example), type=Problem, strict=True)
    assert (problem.type, problem.status) == (f"/problems/{slug}", PROBLEMS[slug].status)
    assert escape(PROBLEMS[slug].advice) in page.text


# Request ids


@pytest.mark.parametrize("given", ["a", "018f-A.b_c", "x" * 64])
async def test_a_good_request_id_is_kept(stranger: httpx.AsyncClient, given: str) -> None:
    for path in ("/v1/characters", "/v1/nowhere"):
        answer = await stranger.get(path, headers={"X-Request-ID": given})
        assert answer.headers.get_list("X-Request-ID") == [given]


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a\tb", "é".encode(), '{"a":1}', "<b>", "a,b"])
async def test_a_malformed_request_id_is_replaced(stranger: httpx.AsyncClient, given: str | bytes) -> None:
    headers = [(b"X-Request-ID", given if isinstance(given, bytes) else given.encode())]
    first, second = [(await stranger.get("/v1/nowhere", headers=headers)).headers["X-Request-ID"] for _ in range(2)]
    assert len(first) == 36
    assert first != second


# Hosts


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost:8000", "127.0.0.1:80", "[::1]", "[::1]:8000"])
async def test_allowed_hosts_are_served(stranger: httpx.AsyncClient, host: str) -> None:
    assert (await stranger.get("/v1/characters", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example.org", "localhost.evil.org", "evil-localhost", "localhost:80:80", "::1"]
)
async def test_another_host_is_a_bad_request(stranger: httpx.AsyncClient, host: str) -> None:
    for path in ("/v1/characters", "/admin/", "/docs"):
        answer = await stranger.get(path, headers={"Host": host})
        assert answer.status_code == 400
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["detail"] == "The Host header names no host of this service."
        assert answer.headers["X-Frame-Options"] == "DENY"


async def test_health_checks_accept_any_host(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get("/health/live", headers={"Host": "10.0.0.7:8000"})).status_code == 200


# CORS


@pytest.mark.parametrize(("method", "path", "body", "status"), ANSWERS)
async def test_an_allowed_origin_may_read_every_answer(
    stranger: httpx.AsyncClient, method: str, path: str, body: bytes | None, status: int
) -> None:
    stranger.headers["Origin"] = OURS
    answer = await ask(stranger, method, path, body, status)
    assert answer.headers.get_list("Access-Control-Allow-Origin") == [OURS]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert {"ETag", "Location", "X-Request-ID", "Retry-After"} <= listed(answer, "Access-Control-Expose-Headers")
    assert "Origin" in listed(answer, "Vary")


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "*", f"{OURS}.evil.org", f"{OURS}:8443", "http://app.example.org", OURS.upper(), None]
)
async def test_another_origin_gets_no_cors_headers(stranger: httpx.AsyncClient, origin: str | None) -> None:
    if origin is not None:
        stranger.headers["Origin"] = origin
    for method in ("GET", "OPTIONS"):
        answer = await stranger.request(method, "/v1/characters", headers={"Access-Control-Request-Method": "POST"})
        assert [name for name in answer.headers if name.startswith("access-control")] == []
        assert "Origin" in listed(answer, "Vary")


@pytest.mark.parametrize(
    ("origin", "is_local"),
    [
        ("http://localhost:5173", True),
        ("http://localhost", True),
        ("http://127.0.0.1:3000", True),
        ("https://localhost:5173", False),
        ("http://localhost.evil.org", False),
        ("http://localhost:5173.evil.org", False),
        ("http://127.0.0.1x:3000", False),
        ("http://evil.org/http://localhost:1", False),
    ],
)
async def test_in_development_pages_of_this_machine_may_read(
    stranger: httpx.AsyncClient, origin: str, is_local: bool
) -> None:
    answer = await stranger.get("/v1/characters", headers={"Origin": origin})
    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if is_local else None)


async def test_in_production_pages_of_this_machine_may_not_read() -> None:
    scope: Any = {"headers": [(b"origin", b"http://localhost:5173")], "state": {"headers": {}}}

    async def nothing(*_: Any) -> None: ...

    for local in (True, False):
        scope["state"]["headers"] = {}
        await Cors(nothing, [OURS], local=local)(scope, nothing, nothing)
        assert bool(scope["state"]["headers"]) == local


async def test_a_preflight_allows_methods_and_headers(stranger: httpx.AsyncClient) -> None:
    asked = {"Origin": OURS, "Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "if-match"}
    answer = await stranger.options("/v1/characters", headers=asked)
    assert answer.status_code == 204
    assert answer.content == b""
    assert answer.headers["Access-Control-Allow-Origin"] == OURS
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= listed(answer, "Access-Control-Allow-Methods")
    wanted = {"Authorization", "Content-Type", "If-Match", "If-None-Match", "Idempotency-Key", "Last-Event-ID"}
    assert wanted <= listed(answer, "Access-Control-Allow-Headers")
    assert int(answer.headers["Access-Control-Max-Age"]) > 0


async def test_a_preflight_of_an_unknown_path_succeeds_so_that_the_browser_shows_the_404(
    stranger: httpx.AsyncClient,
) -> None:
    asked = {"Origin": OURS, "Access-Control-Request-Method": "POST"}
    assert (await stranger.options("/v1/charcters", headers=asked)).status_code == 204
    assert (await stranger.options("/v1/charcters")).status_code == 404
    answer = await stranger.post("/v1/charcters", headers={"Origin": OURS})
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (404, OURS)
    assert {"Content-Disposition", "ETag"} <= listed(answer, "Access-Control-Expose-Headers")


async def test_vary_has_origin_and_authorization(alice: httpx.AsyncClient) -> None:
    answer = await alice.get("/v1/users/me")
    assert {"Origin", "Authorization"} <= listed(answer, "Vary")


def listed(answer: httpx.Response, name: str) -> set[str]:
    return {part.strip() for value in answer.headers.get_list(name) for part in value.split(",")}


# Metrics


def from_address(address: str, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.8.8.8", {}, 200),
        ("::1", {}, 200),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("192.0.2.7", {}, 403),
        ("192.0.2.7", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("192.0.2.7", {"Authorization": "Bearer "}, 403),
    ],
)
async def test_metrics_are_for_this_machine(app: None, address: str, headers: dict[str, str], status: int) -> None:
    async with from_address(address, **headers) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == status
    assert ("http_requests_total" in answer.text) == (status == 200)


# A service behind a proxy, with a token for metrics


@pytest.fixture(scope="module")
def behind_proxy(fresh_database: str) -> Iterator[Service]:
    production = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "127.0.0.1", "SECRET_KEY": "0123456789abcdef" * 2}
    trust = {"TRUSTED_PROXIES": "127.0.0.1, 127.3.0.0/16", "METRICS_TOKEN": "the-token-for-metrics"}
    assert piccolo("migrations", "forwards", DATABASE_URL=fresh_database).returncode == 0
    with service_of_its_own(DATABASE_URL=fresh_database, **production, **trust) as service:
        yield service.start()


@pytest.mark.parametrize(
    ("address", "forwarded", "told"),
    [
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.3.4.5", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "10.0.0.1, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "203.0.113.9, 127.3.4.5", "203.0.113.9"),
        ("127.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.2", "203.0.113.9", "127.0.0.2"),
        ("127.4.0.1", "203.0.113.9", "127.4.0.1"),
    ],
)
def test_the_logged_client_address(behind_proxy: Service, address: str, forwarded: str, told: str) -> None:
    with behind_proxy.client(address=address, **{"X-Forwarded-For": forwarded}) as client:
        request_id = client.get("/v1/characters").headers["X-Request-ID"]
    assert [line["client"] for line in behind_proxy.access_lines(request_id, 1)] == [told]


@pytest.mark.parametrize(
    ("forwarded", "authorization", "status"),
    [
        ("203.0.113.9", "", 403),
        ("203.0.113.9", "Bearer another-token", 403),
        ("203.0.113.9", "Basic the-token-for-metrics", 403),
        ("203.0.113.9", "Bearer the-token-for-metrics", 200),
        ("127.0.0.1", "", 200),
    ],
)
def test_metrics_with_the_token(behind_proxy: Service, forwarded: str, authorization: str, status: int) -> None:
    with behind_proxy.client(**{"X-Forwarded-For": forwarded, "Authorization": authorization}) as client:
        assert client.get("/metrics").status_code == status


@pytest.mark.parametrize("path", ["/v1/relationship-types", "/v1/nowhere", "/docs"])
def test_head_leaves_the_connection_usable(running_service: Service, path: str) -> None:
    with running_service.client() as client:
        for method in ("HEAD", "GET", "HEAD"):
            answer = client.request(method, path)
            assert bool(answer.content) == (method == "GET")
            assert int(answer.headers["Content-Length"])
    assert "Traceback" not in running_service.output
