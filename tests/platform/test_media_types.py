"""A body of another Content-Type is refused with what is accepted: a JSON Patch is JSON, too, but no row."""

from typing import Any

import httpx
import pytest

from tests.conftest import PASSWORD, character, faults, relationship, template

Client = httpx.AsyncClient

ACCEPTED = ["application/json", "application/json; charset=utf-8", 'application/JSON;charset="UTF-8"']
MERGE_PATCH = ["application/merge-patch+json", "application/merge-patch+json; charset=utf-8"]
REFUSED = [
    "application/json-patch+json", "application/vnd.foo+json", "application/problem+json", "text/json", "text/plain",
    "application/json; charset=latin-1", "application/json; profile=x", "application/x-www-form-urlencoded",
]  # fmt: skip
FORM = "multipart/form-data"


async def cases(alice: Client) -> list[tuple[str, str, str]]:
    """Requests with a body: the method, the path and the JSON."""
    mira = await character(alice)
    friend = await relationship(alice, mira, await character(alice))
    fighter = await template(alice)
    return [
        ("POST", "/v1/sessions", f'{{"login": "alice", "password": "{PASSWORD}"}}'),
        ("POST", "/v1/characters", '{"name": "Otto"}'),
        ("POST", f"/v1/characters/{mira['id']}/copies", "{}"),
        ("PUT", f"/v1/characters/{mira['id']}/card", '{"nickname": "Mi"}'),
        ("PATCH", f"/v1/characters/{mira['id']}", '{"tags": []}'),
        ("PATCH", f"/v1/relationships/{friend['id']}", '{"attitude": 1}'),
        ("PATCH", f"/v1/templates/{fighter['id']}", '{"tags": []}'),
        ("PATCH", "/v1/users/me", '{"bio": ""}'),
    ]


async def test_json_is_accepted_by_its_own_types_only(alice: Client) -> None:
    for method, path, body in await cases(alice):
        is_patch = method == "PATCH"
        for media_type in [*ACCEPTED, *MERGE_PATCH, *REFUSED]:
            answer = await alice.request(method, path, content=body, headers={"Content-Type": media_type})
            if media_type in ACCEPTED or (is_patch and media_type in MERGE_PATCH):
                assert answer.is_success, (method, path, media_type, answer.text)
                continue
            assert answer.status_code == 415, (method, path, media_type)
            detail = answer.json()["detail"]
            assert faults(answer) == {"Content-Type": detail}
            assert "'application/json'" in detail
            assert ("'application/merge-patch+json'" in detail) == is_patch
            assert (FORM in detail) == path.endswith("/card")
            accepted = "application/json, application/merge-patch+json" if is_patch else None
            assert answer.headers.get("accept-patch") == accepted


@pytest.mark.parametrize("path", ["/v1/characters/{}/portrait", "/v1/users/me/avatar"])
async def test_a_picture_that_is_refused_has_its_fault(alice: Client, path: str) -> None:
    path = path.format((await character(alice))["id"])
    damaged = b"\x89PNG\r\n\x1a\n" + bytes(50)
    sent: list[tuple[bytes, int, str]] = [
        (b"<svg/>", 415, "The file is not"),
        (damaged, 422, "The picture is damaged"),
        (damaged + bytes(10 * 2**20), 413, "at most 10 MiB"),
        (bytes(11 * 2**20), 413, "at most 10 MiB"),
    ]
    for content, status, detail in sent:
        raw = await alice.put(path, content=content, headers={"Content-Type": "image/png"})
        form = await alice.put(path, files={"file": ("a.png", content)})
        for answer, pointers in ((raw, {""}), (form, {"/file", ""})):
            assert answer.status_code == status
            (fault,) = answer.json()["errors"]
            assert fault["pointer"] in pointers
            assert detail in fault["detail"], (status, fault)
    missing: dict[str, Any] = {"content": b"", "headers": {"Content-Type": "image/png"}}
    assert await refusal(alice, path, **missing) == (400, "", "The body is missing.")
    assert await refusal(alice, path) == (400, "", "The body is missing.")
    assert await refusal(alice, path, files={"file": ("a.png", b"")}) == (422, "/file", "The file is empty.")
    text = await alice.put(path, content=b"x", headers={"Content-Type": "text/plain"})
    assert (text.status_code, faults(text)) == (415, {"Content-Type": text.json()["detail"]})


async def refusal(alice: Client, path: str, **sent: Any) -> tuple[int, str, str]:
    answer = await alice.put(path, **sent)
    (fault,) = answer.json()["errors"]
    return answer.status_code, fault["pointer"], fault["detail"]
