"""Responses without a body have no Content-Type, and those to HEAD have that of GET."""

from typing import Any

import httpx
import pytest

from tests.conftest import PASSWORD, character

EMAIL = {"email": "nobody@example.org"}
NEW_PASSWORD = {"current_password": PASSWORD, "new_password": "Some other words"}
CASES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "a password reset": ("POST", "/v1/password-resets", {"json": EMAIL}, 202),
    "a verification": ("POST", "/v1/email-verifications", {"json": EMAIL}, 202),
    "not modified": ("GET", "{}", {"headers": {"If-None-Match": "*"}}, 304),
    "a preflight": ("OPTIONS", "{}", {}, 204),
    "a new password": ("PUT", "/v1/users/me/password", {"json": NEW_PASSWORD}, 204),
    "a deletion": ("DELETE", "{}", {}, 204),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
async def test_no_body_has_no_type(alice: httpx.AsyncClient, case: str) -> None:
    method, path, sent, status = CASES[case]
    path = path.format(f"/v1/characters/{(await character(alice))['id']}")
    answer = await alice.request(method, path, **sent)
    assert (answer.status_code, answer.content) == (status, b"")
    assert "content-type" not in answer.headers


async def test_head_has_the_type_of_get(alice: httpx.AsyncClient) -> None:
    assert (await alice.head("/v1/characters")).headers["content-type"] == "application/json"
