"""The example bodies of the OpenAPI document succeed as they stand, in the order of the list."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from jsonschema import Draft202012Validator
from litestar.handlers.http_handlers import HTTPRouteHandler

from service.app import app as application
from service.commands.seed import insert_seeds
from service.web.openapi_examples import EXAMPLES, ID, OTHER_ID, TOKEN
from tests.conftest import character
from tests.contracts.test_openapi import SNAPSHOT, operations_of
from tests.support.answers import check_answer
from tests.support.mail import Mailbox, configure, mail_server

OPERATIONS = {
    operation["operationId"]: (method, path, operation.get("requestBody", {}).get("content", {}))
    for path, method, operation in operations_of(msgspec.json.decode(SNAPSHOT.read_bytes()))
}
HANDLERS = {
    str(handler.handler_name): handler
    for route in application.routes
    for handler in getattr(route, "route_handlers", ())
    if isinstance(handler, HTTPRouteHandler)
}
MAILS = {"verify_email": "confirm", "reset_password": "new password"}


@pytest.fixture
async def mailbox(app: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mailbox]:
    mailbox = Mailbox()
    async with mail_server(mailbox, configure(monkeypatch)):
        yield mailbox


def test_every_json_body_has_an_example() -> None:
    examples = {
        name: _first_example(content["application/json"])
        for name, (_, _, content) in OPERATIONS.items()
        if "application/json" in content
    }
    assert examples == EXAMPLES


def _first_example(content: Any) -> Any:
    return content["example"] if "example" in content else next(iter(content["examples"].values()))["value"]


async def test_the_bulk_examples_succeed_and_show_every_action(alice: httpx.AsyncClient) -> None:
    """The first as it is, the others with ids filled in."""
    _, path, content = OPERATIONS["change_characters"]
    actions = set()
    for each in content["application/json"]["examples"].values():
        ids = [(await character(alice))["id"] for _ in range(2)]
        body = msgspec.json.encode(each["value"]).decode().replace(ID, ids[0]).replace(OTHER_ID, ids[1])
        answer = await alice.post(path, content=body, headers={"Content-Type": "application/json"})
        assert all(item["status"] < 300 for item in answer.json()["items"]), answer.text
        assert len(answer.json()["items"]) > 1
        actions |= {operation["action"] for operation in each["value"]["operations"]}
    assert actions == {"create", "update", "delete"}


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


def test_every_json_response_has_an_example_that_is_valid() -> None:
    document = msgspec.json.decode(SNAPSHOT.read_bytes())
    checked = 0
    for path, method, operation in operations_of(document):
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items() if status < "300" else ():
                if not media_type.endswith("json") or media_type.endswith("ndjson"):
                    continue
                schema = {"components": document["components"], **content["schema"]}
                validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
                faults = [error.message for error in validator.iter_errors(content["example"])]
                assert faults == [], (method, path, status)
                checked += 1
    assert checked > 50


def test_the_examples_of_responses_are_what_the_routes_declare() -> None:
    for _, _, operation in operations_of(msgspec.json.decode(SNAPSHOT.read_bytes())):
        handler = HANDLERS[operation["operationId"]]
        for status, response in operation["responses"].items():
            if status < "300" and (content := response.get("content", {}).get("application/json")):
                check_answer(handler, httpx.QueryParams(), msgspec.json.encode(content["example"]))


def _values(schema: Any, components: Any) -> list[Any]:
    """The values that a document shows for a parameter: its examples, its default, or its choices."""
    if "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]] | schema
    of_items = schema.get("items", {})
    if "$ref" in of_items:
        of_items = components[of_items["$ref"].rpartition("/")[2]]
    shown = [*schema.get("examples", ()), *([schema["default"]] if "default" in schema else [])]
    return shown + schema.get("enum", []) + [[choice] for choice in of_items.get("enum", [])]


async def test_lists_take_each_example_of_their_parameters(alice: httpx.AsyncClient) -> None:
    await insert_seeds()
    mine = await character(alice)
    document = (await alice.get("/openapi.json")).json()
    sent = 0
    for path, method, operation in operations_of(document):
        parameters = operation.get("parameters", [])
        if method != "get" or not any(each["name"] == "limit" for each in parameters):
            continue
        examples = {each["name"]: each.get("example", mine["id"]) for each in parameters if each["in"] == "path"}
        for parameter in parameters:
            if parameter["in"] != "query" or parameter["name"] in ("cursor", "after"):  # which no document can know
                continue
            values = _values(parameter["schema"], document["components"]["schemas"])
            assert values, f"{path} shows no value of {parameter['name']}"
            for value in values:
                query = {parameter["name"]: value}
                if "rank" in str(value):
                    query["q"] = "night"
                answer = await alice.get(path.format(**examples), params=query)
                assert answer.status_code == 200, (path, query, answer.text)
                sent += 1
        described = {each["name"]: re.findall(": `(.*?)`", each.get("description", "")) for each in parameters}
        for name in described.keys() & {"fields", "expand", "sort"}:
            for text in described[name]:
                answer = await alice.get(path.format(**examples), params={name: text})
                assert answer.status_code == 200, (path, name, text)
    assert sent > 100
