"""A problem document does not repeat a token that a client sent as a name or a value."""

import json
from typing import Any

import httpx
import pytest

from service.auth.secrets import new_token
from tests.conftest import FIGHTER

Client = httpx.AsyncClient

SECRET = new_token("mail")
JSON = {"Content-Type": "application/json"}
TWICE = f'{{"{SECRET}": 1, "{SECRET}": 2}}'
NAMED = {SECRET: 1}
SCHEMA = {"type": "object", "properties": {SECRET: {"type": "nothing"}}}

REPEATED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a parameter": ("GET", "/characters", {"params": NAMED}),
    "a filter": ("GET", "/characters", {"params": {f"{SECRET}.in": 1}}),
    "a field": ("GET", "/characters", {"params": {"fields": SECRET}}),
    "a member": ("POST", "/characters", {"json": {"name": "Mira"} | NAMED}),
    "a member that is sent twice": ("POST", "/characters", {"content": TWICE, "headers": JSON}),
    "a member of extensions": ("POST", "/characters", {"json": {"name": "M", "extensions": {SECRET: "\0"}}}),
    "a member of a schema": ("POST", "/templates", {"json": {"name": "F", "attribute_schema": SCHEMA}}),
    "a name in a prompt": (
        "POST",
        "/templates",
        {"json": {"name": "F", "attribute_schema": FIGHTER, "prompt": f"{{{SECRET}}}"}},
    ),
    "an operation": ("POST", "/characters/bulk", {"json": {"operations": [{"action": "create", "body": NAMED}]}}),
    "a card": ("POST", "/imports", {"files": {"file": ("a.json", json.dumps({"data": {SECRET: "\0"}}).encode())}}),
    "a part": ("POST", "/imports", {"files": {SECRET: ("a.json", b"{}")}}),
}


@pytest.mark.parametrize("place", REPEATED)
async def test_a_token_is_not_repeated(alice: Client, place: str) -> None:
    method, path, sent = REPEATED[place]
    answer = await alice.request(method, f"/v1{path}", **sent)
    assert '"problem":' in answer.text or answer.headers["content-type"] == "application/problem+json"
    assert "chm_***" in answer.text
    assert SECRET[4:30] not in answer.text
