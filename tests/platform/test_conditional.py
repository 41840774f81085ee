"""Conditional requests, and the methods that every path answers: HEAD, OPTIONS, 405."""

from typing import Any

import httpx
import pytest
from litestar.types import Send

from service.app import app as application
from service.web.csp import NOTHING
from service.web.middleware.headers import MAX_LIST
from tests.conftest import character, faults, relationship, template

Client = httpx.AsyncClient

CHANGE = {
    "characters": {"name": "New"},
    "templates": {"name": "New"},
    "relationships": {"description": "New"},
    "users": {"bio": "New"},
}
every_resource = pytest.mark.parametrize("kind", CHANGE)
what_can_be_deleted = pytest.mark.parametrize("kind", ["characters", "templates", "relationships"])

MALFORMED = ["", "x", '"', "W/", 'W/"', '"a', '"a",', ",", '"a" "b"', '*, "a"', "\x80", '"a\x00b"', "1"]


async def made(alice: Client, kind: str) -> str:
    """The path of a new resource of Alice."""
    if kind == "characters":
        return f"/v1/characters/{(await character(alice))['id']}"
    if kind == "templates":
        return f"/v1/templates/{(await template(alice))['id']}"
    if kind == "relationships":
        row = await relationship(alice, await character(alice), await character(alice))
        return f"/v1/relationships/{row['id']}"
    return "/v1/users/me"


async def etag(member: Client, path: str) -> str:
    return (await member.get(path)).headers["etag"]


@every_resource
async def test_an_etag_changes_with_its_row(alice: Client, kind: str) -> None:
    path = await made(alice, kind)
    first = await etag(alice, path)
    changed = await alice.patch(path, json=CHANGE[kind])
    assert first.endswith('-1"')
    assert changed.headers["etag"] == first.replace('-1"', '-2"') == await etag(alice, path)


@every_resource
async def test_a_change_with_the_current_etag_succeeds(alice: Client, kind: str) -> None:
    path = await made(alice, kind)
    current = await etag(alice, path)
    for matching in ("{}", "*", '"other", {}', '{} , W/"other"'):
        answer = await alice.patch(path, json=CHANGE[kind], headers={"If-Match": matching.format(current)})
        assert answer.status_code == 200, matching
        current = answer.headers["etag"]
    assert (await alice.patch(path, json=CHANGE[kind])).status_code == 200


@every_resource
async def test_a_stale_change_is_refused(alice: Client, kind: str) -> None:
    path = await made(alice, kind)
    stale = await etag(alice, path)
    await alice.patch(path, json=CHANGE[kind])
    now = await alice.get(path)
    for not_matching in (stale, f"W/{now.headers['etag']}", '"other"', f'"other", {stale}'):
        answer = await alice.patch(path, json={}, headers={"If-Match": not_matching})
        assert (answer.status_code, answer.json()["type"]) == (412, "/problems/precondition-failed")
        is_weak = not_matching.startswith("W/")
        assert (list(faults(answer)), "never matches" in answer.json()["detail"]) == (["If-Match"], is_weak)
        assert answer.headers["etag"] == now.headers["etag"]
    assert (await alice.get(path)).content == now.content


@what_can_be_deleted
async def test_a_stale_deletion_is_refused(alice: Client, kind: str) -> None:
    path = await made(alice, kind)
    stale = await etag(alice, path)
    current = (await alice.patch(path, json=CHANGE[kind])).headers["etag"]
    refused = await alice.delete(path, headers={"If-Match": stale})
    assert (refused.status_code, refused.headers["etag"]) == (412, current)
    assert await etag(alice, path) == current
    assert (await alice.delete(path, headers={"If-Match": current})).status_code == 204


@every_resource
@pytest.mark.parametrize("malformed", MALFORMED)
async def test_a_malformed_if_match_is_a_bad_request(alice: Client, kind: str, malformed: str) -> None:
    path = await made(alice, kind)
    answer = await alice.patch(path, json=CHANGE[kind], headers={"If-Match": malformed.encode("latin-1")})
    assert answer.status_code == 400
    assert faults(answer).keys() == {"If-Match"}
    assert (await etag(alice, path)).endswith('-1"')


@every_resource
async def test_an_unchanged_resource_answers_304(alice: Client, kind: str) -> None:
    path = await made(alice, kind)
    current = await etag(alice, path)
    for matching in (current, f"W/{current}", f'"other", W/{current}', "*"):
        answer = await alice.get(path, headers={"If-None-Match": matching})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == current
        assert "content-type" not in answer.headers
    await alice.patch(path, json=CHANGE[kind])
    assert (await alice.get(path, headers={"If-None-Match": current})).status_code == 200


async def test_a_strange_if_none_match_matches_nothing(alice: Client) -> None:
    path = await made(alice, "characters")
    for strange in MALFORMED:
        if "*" not in strange:
            answer = await alice.get(path, headers={"If-None-Match": strange.encode("latin-1")})
            assert answer.status_code == 200, strange


@pytest.mark.parametrize("policy", ["default-src 'self'", None])
async def test_a_page_in_a_cache_keeps_its_policy(
    alice: Client, monkeypatch: pytest.MonkeyPatch, policy: str | None
) -> None:
    async def answer(_: object, __: object, ___: object, send: Send) -> None:
        headers = [(b"etag", b'"1"'), (b"content-type", b"text/html"), (b"content-length", b"4")]
        headers += [(b"content-security-policy", policy.encode())] if policy else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"page", "more_body": False})

    monkeypatch.setattr("service.web.responses.Rendered.answer", answer)
    whole = await alice.get("/v1/characters")
    assert whole.headers["content-security-policy"] == (policy or NOTHING)
    kept = await alice.get("/v1/characters", headers={"If-None-Match": '"1"'})
    assert (kept.status_code, kept.content) == (304, b"")
    assert kept.headers["content-security-policy"] == (policy or NOTHING)
    assert not {"content-type", "content-length"} & kept.headers.keys()


async def test_shared_caches_may_not_answer_other_callers(alice: Client) -> None:
    answer = await alice.get(await made(alice, "characters"))
    assert answer.headers["cache-control"] == "no-cache"
    assert "Authorization" in answer.headers["vary"]
    assert (await alice.get("/v1/sessions")).headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    ["/v1/characters", "/v1/templates", "/v1/users/me", "/v1/sessions", "/v1/api-keys", "/v1/relationship-types",
     "/v1/nothing", "/v1/characters?limit=0", "/health/live", "/openapi.json"],
)  # fmt: skip
async def test_head_is_get_without_its_body(alice: Client, path: str) -> None:
    await character(alice)
    alice.headers["accept-encoding"] = "identity"  # else the length is that of the compressed body
    get, head = await alice.get(path), await alice.head(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == str(len(get.content)) == get.headers["content-length"]
    own = {"x-request-id", "ratelimit-remaining", "ratelimit-reset"}
    assert {name: head.headers[name] for name in head.headers.keys() - own} == {
        name: get.headers[name] for name in get.headers.keys() - own
    }


def methods_of(path: str) -> set[str]:
    """The methods of all handlers of the path."""
    (route,) = [route for route in application.routes if route.path == path]
    return {*route.methods, "OPTIONS", *(["HEAD"] if "GET" in route.methods else [])}


V1 = sorted({route.path for route in application.routes if route.path.startswith("/v1/")})
NOWHERE = {"uuid": "0199a0a0-0000-7000-8000-000000000000", "int": "1", "str": "nobody"}


def example(path: str) -> str:
    """A path for a template such as /v1/characters/{character_id:uuid}."""
    parts = path.split("/")
    return "/".join(NOWHERE[part[:-1].split(":")[1]] if part.startswith("{") else part for part in parts)


@pytest.mark.parametrize("path", V1)
async def test_options_and_405_list_the_methods_of_every_path(stranger: Client, path: str) -> None:
    expected = methods_of(path)
    options = await stranger.options(example(path))
    assert (options.status_code, options.content) == (204, b"")
    assert set(options.headers["allow"].split(", ")) == expected
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - expected:
        refused = await stranger.request(method, example(path))
        assert (refused.status_code, refused.json()["type"]) == (405, "/problems/method-not-allowed")
        assert set(refused.headers["allow"].split(", ")) == expected


async def test_options_of_an_unknown_path_is_404(stranger: Client) -> None:
    answer = await stranger.options("/v1/nothing")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")


async def test_every_answer_has_a_request_id(stranger: Client) -> None:
    for path in ("/v1/characters", "/v1/nothing", "/v1/characters?limit=0"):
        kept = await stranger.get(path, headers={"X-Request-ID": "mine.1_2-3"})
        assert kept.headers["x-request-id"] == "mine.1_2-3"
        own = await stranger.get(path, headers={"X-Request-ID": "not mine" * 9})
        assert own.headers["x-request-id"] != "not mine" * 9
    assert kept.json()["request_id"] == "mine.1_2-3"


async def test_the_members_of_a_problem(alice: Client) -> None:
    problem: dict[str, Any] = (await alice.get("/v1/characters/0199a0a0-0000-7000-8000-000000000000")).json()
    assert problem.pop("request_id")
    assert problem == {
        "type": "/problems/not-found",
        "title": "Not Found",
        "status": 404,
        "detail": "The resource does not exist, or the caller may not see it.",
        "instance": "/v1/characters/0199a0a0-0000-7000-8000-000000000000",
    }


async def test_if_none_match_may_be_split_into_several_headers(alice: Client) -> None:
    path = await made(alice, "characters")
    current = await etag(alice, path)
    for tags in ([current, '"x"'], ['"x"', current], ['"x"', "*"]):
        answer = await alice.get(path, headers=[("If-None-Match", tag) for tag in tags])
        assert (answer.status_code, answer.content) == (304, b""), tags
    long = f"{current},{',' * MAX_LIST}"
    assert (await alice.get(path, headers={"If-None-Match": long})).status_code == 200
