"""The example bodies of the OpenAPI document succeed as they stand, in the order of the list."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from service.commands.seed import insert_seeds
from service.web.openapi_examples import EXAMPLES, ID, TOKEN
from tests.contracts.test_openapi import SNAPSHOT, operations_of
from tests.support.mail import Mailbox, configure, mail_server

OPERATIONS = {
    operation["operationId"]: (method, path, operation.get("requestBody", {}).get("content", {}))
    for path, method, operation in operations_of(msgspec.json.decode(SNAPSHOT.read_bytes()))
}
MAILS = {"verify_email": "confirm", "reset_password": "new password"}


@pytest.fixture
async def mailbox(app: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mailbox]:
    mailbox = Mailbox()
    async with mail_server(mailbox, configure(monkeypatch)):
        yield mailbox


def test_every_json_body_has_an_example() -> None:
    examples = {
        name: content["application/json"].get("example")
        for name, (_, _, content) in OPERATIONS.items()
        if "application/json" in content
    }
    assert examples == EXAMPLES


async def test_the_examples_succeed(stranger: httpx.AsyncClient, mailbox: Mailbox) -> None:
    ids: dict[str, str] = {}

    async def send(name: str) -> Any:
        method, path, _ = OPERATIONS[name]
        text = msgspec.json.encode(EXAMPLES[name]).decode().replace(ID, ids.get("another character", ""))
        if name in MAILS:
            text = text.replace(TOKEN, await mailbox.token(MAILS[name]))
        path = re.sub(r"\{(\w+)_id}", lambda found: ids[found[1]], path)
        answer = await stranger.request(method, path, content=text, headers={"Content-Type": "application/json"})
        assert answer.is_success, (name, answer.text)
        return answer.json() if answer.content else None

    for name in EXAMPLES:
        found = await send(name)
        if name == "reset_password":
            del stranger.headers["Authorization"]  # a reset ends all sessions
            found = await send("create_session")
        if found and "token" in found and "user" in found:
            stranger.headers["Authorization"] = f"Bearer {found['token']}"
        if name.startswith("create_") and "id" in found:
            ids[name.removeprefix("create_")] = found["id"]
        if name == "copy_character":
            ids["another character"] = found["id"]


async def test_everybody_can_read_the_example_rows(stranger: httpx.AsyncClient) -> None:
    await insert_seeds()
    document = (await stranger.get("/openapi.json")).json()
    answers = {}
    for path, _, operation in operations_of(document):
        examples = {each["name"]: each["example"] for each in operation.get("parameters", []) if "example" in each}
        if examples:
            answers[operation["operationId"]] = (await stranger.get(path.format(**examples))).status_code
    without = {"get_avatar", "get_portrait"}  # the demo data has no pictures
    assert len(answers) > 10
    assert {name for name, status in answers.items() if status != 200} == without
