"""Compressed answers, and the headers for caches."""

import asyncio
import gzip
import json
import random
from collections.abc import Callable
from typing import Any

import brotli
import httpx
import pytest

from service.web.middleware.compression import Compression, is_worth_it, preferred
from tests.conftest import character, public, template

Client = httpx.AsyncClient

BROWSER = "gzip, deflate, br, zstd"
ORIGIN = "https://app.example.org"
DECODE: dict[str, Callable[[bytes], bytes]] = {"br": brotli.decompress, "gzip": gzip.decompress}


async def raw(member: Client, path: str, method: str = "GET", **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer and its body as sent. Without this, httpx would request compression and decompress the body."""
    headers = {"Accept-Encoding": "identity"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with member.stream(method, path, headers=headers) as answer:
        return answer, b"".join([piece async for piece in answer.aiter_raw()])


def vary(answer: httpx.Response) -> list[str]:
    (line,) = answer.headers.get_list("vary")
    return line.split(", ")


@pytest.mark.parametrize(
    ("accept_encoding", "encoding"),
    [
        ("", None),
        ("identity", None),
        ("deflate, zstd", None),
        ("gzip", "gzip"),
        ("br", "br"),
        ("GZIP", "gzip"),
        (BROWSER, "br"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("br;q=0, gzip", "gzip"),
        ("br;q=0, gzip ; q = 0.000", None),
        ("*", "br"),
        ("*;q=0.1, br;q=0", "gzip"),
        ("br;q=nonsense, gzip;q=0.1", "gzip"),
        ("identity, br;q=0.5", None),
        ("brotli, xgzip", None),
        (",;,=", None),
    ],
)
def test_the_preferred_encoding(accept_encoding: str, encoding: str | None) -> None:
    assert preferred(accept_encoding.encode()) == (encoding.encode() if encoding else None)


@pytest.mark.parametrize("encoding", ["br", "gzip"])
async def test_a_large_answer_is_compressed(alice: Client, encoding: str) -> None:
    made = await character(alice, description="A detective. " * 200)
    path = f"/v1/characters/{made['id']}"
    plain, body = await raw(alice, path)
    answer, compressed = await raw(alice, path, Accept_Encoding=encoding)
    assert answer.headers["content-encoding"] == encoding
    assert int(answer.headers["content-length"]) == len(compressed) < len(body) / 3
    assert DECODE[encoding](compressed) == body
    assert "content-encoding" not in plain.headers
    changing = {"content-encoding", "content-length", "x-request-id", "ratelimit-remaining", "ratelimit-reset"}
    assert {*plain.headers.items()} ^ {*answer.headers.items()} <= {
        item for told in (plain, answer) for item in told.headers.items() if item[0] in changing
    }


async def test_a_small_answer_is_not_compressed(alice: Client) -> None:
    answer, body = await raw(alice, "/v1/characters", Accept_Encoding=BROWSER)
    assert "content-encoding" not in answer.headers
    assert json.loads(body)["items"] == []
    assert vary(answer) == ["Accept-Encoding", "Origin"]


async def test_problems_and_pages_and_metrics_are_compressed_too(alice: Client, stranger: Client) -> None:
    for path in ("/problems", "/openapi.json", "/docs-assets/swagger-ui.css", "/metrics"):
        answer, body = await raw(stranger, path, Accept_Encoding="br")
        assert (answer.status_code, answer.headers.get("content-encoding")) == (200, "br"), path
        assert brotli.decompress(body) == (await raw(stranger, path))[1] or path == "/metrics"
    parameters = "&".join(f"p{number}=1" for number in range(20))
    problem, body = await raw(alice, f"/v1/characters?{parameters}", Accept_Encoding="gzip")
    assert (problem.status_code, problem.headers["content-encoding"]) == (400, "gzip")
    assert len(json.loads(gzip.decompress(body))["errors"]) == 20


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {"content-type": "application/json", "content-length": "500"}, True),
        (200, {"content-type": "application/json", "content-length": "499"}, False),
        (200, {"content-type": "application/x-ndjson"}, True),
        (422, {"content-type": "application/problem+json; charset=utf-8", "content-length": "600"}, True),
        (200, {"content-type": "application/schema+json", "content-length": "600"}, True),
        (200, {"content-type": "text/vnd.mermaid", "content-length": "600"}, True),
        (200, {"content-type": "image/svg+xml"}, True),
        (200, {"content-type": "image/png", "content-length": "600"}, False),
        (200, {"content-type": "application/zip"}, False),
        (200, {"content-type": "application/jsonsomething"}, False),
        (200, {}, False),
        (200, {"content-type": "text/html", "content-encoding": "gzip"}, False),
        (206, {"content-type": "text/html"}, False),
        (304, {"content-type": "text/html"}, False),
        (204, {"content-type": "text/html"}, False),
    ],
)
def test_which_answers_are_compressed(status: int, headers: dict[str, str], expected: bool) -> None:
    assert is_worth_it(status, [(name.encode(), value.encode()) for name, value in headers.items()]) is expected


async def test_a_stream_is_compressed_as_it_comes(alice: Client) -> None:
    for _ in range(60):
        await character(alice, description="A detective. " * 200)
    plain, body = await raw(alice, "/v1/users/me/export")
    for encoding, decode in DECODE.items():
        answer, compressed = await raw(alice, "/v1/users/me/export", Accept_Encoding=encoding)
        assert answer.headers["content-encoding"] == encoding
        assert "content-length" not in answer.headers
        lines = [decode(compressed).splitlines(), body.splitlines()]
        assert [sum(b'"kind":"character"' in line for line in each) for each in lines] == [60, 60]
        assert len(compressed) < len(body) / 3
    assert "content-encoding" not in plain.headers


async def test_head_has_the_headers_of_get(alice: Client) -> None:
    made = await character(alice, description="A detective. " * 200)
    path = f"/v1/characters/{made['id']}"
    for accepted in (BROWSER, "identity"):
        got, _ = await raw(alice, path, Accept_Encoding=accepted)
        head, body = await raw(alice, path, "HEAD", Accept_Encoding=accepted)
        assert body == b""
        for name in ("content-encoding", "content-length", "content-type", "etag", "vary", "cache-control"):
            assert head.headers.get(name) == got.headers.get(name)


@pytest.mark.parametrize("accepted", [BROWSER, "identity"])
@pytest.mark.parametrize("weak", ["", "W/"])
async def test_not_modified_has_the_headers_that_caches_need(alice: Client, accepted: str, weak: str) -> None:
    made = await character(alice, description="A detective. " * 200)
    path = f"/v1/characters/{made['id']}"
    full, _ = await raw(alice, path, Accept_Encoding=accepted, Origin=ORIGIN)
    tag = weak + full.headers["etag"]
    answer, body = await raw(alice, path, Accept_Encoding=accepted, If_None_Match=tag, Origin=ORIGIN)
    assert (answer.status_code, body) == (304, b"")
    for name in ("etag", "vary", "cache-control", "access-control-allow-origin"):
        assert answer.headers[name] == full.headers[name]
    assert not {"content-encoding", "content-length", "content-type"} & answer.headers.keys()


@pytest.mark.parametrize("origin", [None, ORIGIN, "https://evil.example.org"])
@pytest.mark.parametrize("accepted", [BROWSER, "identity"])
async def test_vary_is_one_header_with_all_values(
    alice: Client, stranger: Client, origin: str | None, accepted: str
) -> None:
    made = await public(alice)
    headers = {"Accept_Encoding": accepted} | ({"Origin": origin} if origin else {})
    one = f"/v1/characters/{made['id']}"
    for member in (alice, stranger):
        answer, _ = await raw(member, one, **headers)
        assert vary(answer) == ["Authorization", "Accept-Encoding", "Origin"]
        assert answer.headers["cache-control"] == "no-cache"
        answer, _ = await raw(member, f"{one}/graph", **headers)
        assert vary(answer) == ["Accept", "Accept-Encoding", "Origin"]
        assert answer.headers["cache-control"] == "no-store"
        answer, _ = await raw(member, "/v1/characters", **headers)
        assert answer.headers["cache-control"] == "no-store"
        assert vary(answer) == ["Accept-Encoding", "Origin"]
        allowed = answer.headers.get("access-control-allow-origin")
        assert allowed == (origin if origin == ORIGIN else None)
    for path in ("/nowhere", "/v1/nowhere", "/docs", "/metrics", "/admin/", "/health/live", "/openapi.json"):
        assert vary((await raw(stranger, path, **headers))[0])[-2:] == ["Accept-Encoding", "Origin"], path
    assert vary((await raw(stranger, "/v1/characters", "OPTIONS", **headers))[0]) == ["Accept-Encoding", "Origin"]


async def test_the_admin_site_is_served_compressed(stranger: Client) -> None:
    answer, body = await raw(stranger, "/admin/", Accept_Encoding="br")
    assert (answer.status_code, answer.headers.get("content-encoding")) == (200, "br")
    assert b"<html" in brotli.decompress(body)


async def test_a_public_template_may_be_cached_with_revalidation(alice: Client, stranger: Client) -> None:
    made: Any = await template(alice, visibility="public")
    answer, _ = await raw(stranger, f"/v1/templates/{made['id']}", Accept_Encoding=BROWSER)
    assert (answer.headers["cache-control"], vary(answer)[0]) == ("no-cache", "Authorization")


@pytest.mark.parametrize("encoding", ["br", "gzip"])
async def test_a_large_part_is_compressed_off_the_event_loop(encoding: str) -> None:
    part = random.Random(1).randbytes(2 * 1024 * 1024).hex().encode()
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"end"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"accept-encoding", encoding.encode())]}
    answer = asyncio.create_task(Compression(app)(scope, None, send))  # receives nothing
    turns = 0
    while not answer.done():
        turns += 1
        await asyncio.sleep(0)
    await answer
    body = b"".join(message.get("body", b"") for message in sent)
    assert (gzip.decompress if encoding == "gzip" else brotli.decompress)(body) == part + b"end"
    assert turns > 20
