"""Requests that are too large in any way, and their statuses."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.parameters import MAX_PARAMETERS
from service.validation import MAX_DEPTH, MAX_POINTERS
from service.web.middleware.headers import MAX_LIST
from service.web.middleware.size_limits import MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL
from service.web.requests import LARGE, MAX_VALUES, read_json
from service.web.requests import MAX_JSON as MAX_BODY
from tests.conftest import character, faults
from tests.support.cpu import less_than
from tests.support.pictures import give_portrait

JSON = {"Content-Type": "application/json"}
MANY_FAULTS = b",".join(b'"a%d":"\\u0000"' % number for number in range(100))


def problem_of(answer: httpx.Response) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["X-Frame-Options"] == "DENY"
    return str(answer.json()["type"].removeprefix("/problems/"))


@pytest.mark.parametrize("path", ["/v1/{}", "/v1/characters?q={}", "/{}", "/admin/{}"])
async def test_a_long_url_is_refused(stranger: httpx.AsyncClient, path: str) -> None:
    longest = path.format("a" * ((MAX_URL - len(path)) // 2))  # httpx passes the query twice to an app in its process
    assert (await stranger.get(longest)).status_code in (200, 400, 404)
    answer = await stranger.get(path.format("a" * MAX_URL))
    assert (answer.status_code, problem_of(answer)) == (414, "url-too-long")
    assert len(answer.content) < 1000


async def test_the_longest_url(stranger: httpx.AsyncClient) -> None:
    longest = f"/v1/{'a' * (MAX_URL - 4)}"
    assert (await stranger.get(longest)).status_code == 404
    assert (await stranger.get(f"{longest}a")).status_code == 414


async def test_many_query_parameters_are_refused(stranger: httpx.AsyncClient) -> None:
    query = [f"p{number}=" for number in range(MAX_PARAMETERS + 1)]
    most = await stranger.get(f"/v1/users/nobody?{'&'.join(query[1:])}")
    assert len(faults(most)) == MAX_PARAMETERS
    answer = await stranger.get(f"/v1/users/nobody?{'&'.join(query)}")
    assert (answer.status_code, faults(answer)) == (400, {})
    assert answer.json()["detail"] == f"The query has more than {MAX_PARAMETERS} parameters."


async def test_many_or_large_headers_are_refused(stranger: httpx.AsyncClient) -> None:
    many = {f"X-Header-{number}": "" for number in range(MAX_HEADERS)}
    for headers in (many, {"X-Header": "a" * MAX_HEADER_BYTES}):
        answer = await stranger.get("/v1/characters", headers=headers)
        assert (answer.status_code, problem_of(answer)) == (431, "headers-too-large")
    some = dict(list(many.items())[:80]) | {"X-Header": "a" * (MAX_HEADER_BYTES - 2048)}
    assert (await stranger.get("/v1/characters", headers=some)).status_code == 200


async def test_the_most_and_the_largest_headers(stranger: httpx.AsyncClient) -> None:
    sent = stranger.build_request("GET", "/v1/characters").headers.raw  # with those that httpx adds
    count, size = len(sent), sum(len(name) + len(value) for name, value in sent)
    for more, status in ((0, 200), (1, 431)):
        many = {f"X-{number}": "" for number in range(MAX_HEADERS - count + more)}
        assert (await stranger.get("/v1/characters", headers=many)).status_code == status
        large = {"X-Header": "a" * (MAX_HEADER_BYTES - size - len("X-Header") + more)}
        assert (await stranger.get("/v1/characters", headers=large)).status_code == status


async def test_a_large_body_of_unknown_length_is_refused(stranger: httpx.AsyncClient) -> None:
    async def spaces(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 1024):
            yield b" " * 1024
        yield b"{}"

    for size, status in ((MAX_BODY - 1024, 422), (MAX_BODY, 413)):
        answer = await stranger.post("/v1/users", content=spaces(size), headers=JSON)
        assert answer.status_code == status
    assert problem_of(answer) == "too-large"


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
async def test_a_deeply_nested_body_is_refused(stranger: httpx.AsyncClient, opening: bytes, closing: bytes) -> None:
    for depth, status in ((MAX_DEPTH, 422), (MAX_DEPTH + 1, 400), (200_000, 400)):
        body = opening * depth + b"1" + closing * depth
        assert (await stranger.post("/v1/users", content=body[:MAX_BODY], headers=JSON)).status_code == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 65 + b'"' + b'\\"' * (MAX_BODY // 2 - 100), 400),
        (b"[" * 65 + b'"' + b"\\\\" * (MAX_BODY // 2 - 100), 400),
        (b"[" + b"1," * (MAX_BODY // 2 - 2) + b"1]", 400),
        (b'{"tags":[' + b"{}," * (MAX_BODY // 3 - 9) + b"{}]}", 400),
        (b'{"name":"\\u0000","tags":[' + b"{}," * (MAX_VALUES // 2 - 9) + b"{}]}", 422),
        (b'{"name":"' + b"," * (MAX_BODY - 20) + b'"}', 422),
        (b"[" * (MAX_BODY // 2) + b"]" * (MAX_BODY // 2), 400),
        (b'{"name":"M","extensions":{"' + b"K" * 900_000 + b'":{' + MANY_FAULTS + b"}}}", 422),
    ],
    ids=["quotes", "backslashes", "numbers", "objects", "faults", "commas", "brackets", "long name"],
)
async def test_a_hostile_megabyte_is_answered_quickly(alice: httpx.AsyncClient, body: bytes, status: int) -> None:
    with less_than(0.1):
        answer = await alice.post("/v1/characters", content=body, headers=JSON)
    assert answer.status_code == status
    assert len(answer.json().get("errors", [])) <= 100
    assert len(answer.content) < 200_000


async def test_the_pointers_of_faults_are_bounded(alice: httpx.AsyncClient) -> None:
    def body(name: str, faults: int) -> dict[str, Any]:
        values = {f"a{number}": "\0" for number in range(faults)}
        return {"name": "Mira", "extensions": {"kept": {name: values}}}

    long = await alice.post("/v1/characters", json=body("K" * MAX_POINTERS, 100))
    assert faults(long) == {"/extensions/kept": "Must not contain the NUL character."}
    half = await alice.post("/v1/characters", json=body("K" * (MAX_POINTERS // 2), 100))
    assert len(faults(half)) == 1
    short = await alice.post("/v1/characters", json=body("K" * 100, 200))
    assert len(faults(short)) == 100
    controls = await alice.post("/v1/characters", json=body("\1" * 50_000, 100))
    assert len(controls.content) < 2_000


async def test_the_pointers_of_a_bulk_request_are_bounded(alice: httpx.AsyncClient) -> None:
    inner: Any = {str(number): 1e300 for number in range(100)}
    for _ in range(14):
        inner = {"~" * 100: inner}
    operations = [{"action": "create", "body": {"name": "Mira", "attributes": {"a": inner}}}] * 100
    answer = await alice.post("/v1/characters/bulk", json={"operations": operations})
    assert {item["status"] for item in answer.json()["items"]} == {422}
    assert len(answer.content) < 100 * (MAX_POINTERS + 10_000)


async def test_the_values_of_a_body_are_bounded(alice: httpx.AsyncClient) -> None:
    for count, status in ((MAX_VALUES - 2, 201), (MAX_VALUES - 1, 400)):
        body = {"name": "Mira", "extensions": {"list": [1] * (count - 1)}}
        answer = await alice.post("/v1/characters", json=body)
        assert answer.status_code == status
    assert answer.json()["detail"] == "The body holds more than 20,000 values."
    assert (await alice.post("/v1/characters", json={"name": "Mira", "prompt": "[,{" * 999})).status_code == 201
    assert (await alice.post("/v1/characters", json={"name": "M", "description": "," * 9_999})).status_code == 201
    text = {"name": "Mira", "extensions": {"text": '\\",[{' * 20_000}}
    assert (await alice.post("/v1/characters", json=text)).status_code == 201


async def test_a_large_body_is_read_in_a_thread(alice: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def read(body: bytes, wanted: object) -> object:
        threads.append(threading.current_thread())
        return read_json(body, wanted)

    monkeypatch.setattr("service.web.requests.read_json", read)
    for size in (LARGE // 2, LARGE):
        answer = await alice.post("/v1/characters", json={"name": "Mira", "extensions": {"a": "x" * size}})
        assert answer.status_code == 201
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


async def test_a_slow_body_times_out(stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dribble() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.05)

    monkeypatch.setattr("service.web.middleware.load_shedding.BODY_PATIENCE", 0.3)
    answer = await stranger.post("/v1/users", content=dribble(), headers=JSON)
    assert (answer.status_code, problem_of(answer)) == (408, "request-timeout")
    assert answer.headers["Connection"] == "close"
    assert 0.2 < answer.elapsed.total_seconds() < 3


ENDLESS = [b"a," * 15_000, b"a;q=0.1," * 3_700, b"," * 31_000, b"*/*," * 7_000]


@pytest.mark.parametrize("path", ["/problems", "/health/live", "/nowhere", f"/{'a' * MAX_URL}"])
@pytest.mark.parametrize("listed", ENDLESS)
async def test_a_long_list_of_encodings_is_ignored(stranger: httpx.AsyncClient, path: str, listed: bytes) -> None:
    await stranger.get(path)
    with less_than(0.06):
        for _ in range(20):
            another = b"br,%s," % uuid4().hex.encode()
            answer = await stranger.get(path, headers={b"Accept-Encoding": another + listed})
    assert answer.status_code in (200, 404, 414)
    assert "Content-Encoding" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/changes", "/v1/characters/{}/graph", "/v1/characters/{}/portrait"])
@pytest.mark.parametrize("listed", ENDLESS)
async def test_a_long_list_of_media_types_is_ignored(alice: httpx.AsyncClient, path: str, listed: bytes) -> None:
    made = await character(alice)
    await give_portrait(made)
    wanted = b"text/vnd.mermaid, application/json;q=0.5,"
    await alice.get(path.format(made["id"]))
    with less_than(0.06):
        for _ in range(5):
            answer = await alice.get(path.format(made["id"]), headers={b"Accept": wanted + listed})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == ("image/webp" if path.endswith("portrait") else "application/json")


async def test_lists_may_be_split_into_several_headers(alice: httpx.AsyncClient) -> None:
    made = await character(alice, description="A detective. " * 200)
    path = f"/v1/characters/{made['id']}"
    for headers in (["br;q=0.5", "gzip"], ["gzip", "br;q=0.5"], ["gzip", "a" * (MAX_LIST - len("gzip,"))]):
        answer = await alice.get(path, headers=[("Accept-Encoding", value) for value in headers])
        assert answer.headers["Content-Encoding"] == "gzip", headers
    answer = await alice.get(path, headers=[("Accept-Encoding", value) for value in ("gzip", "a" * MAX_LIST)])
    assert "Content-Encoding" not in answer.headers
    for headers in (["text/vnd.mermaid", "application/json;q=0.5"], ["application/json;q=0.5", "text/vnd.mermaid"]):
        answer = await alice.get(f"{path}/graph", headers=[("Accept", value) for value in headers])
        assert answer.headers["Content-Type"].startswith("text/vnd.mermaid"), headers
