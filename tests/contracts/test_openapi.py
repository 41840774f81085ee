"""The OpenAPI document is a contract: it changes only on purpose (UPDATE_SNAPSHOT=1 writes it anew)."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

SNAPSHOT = Path(__file__).parent / "openapi.json"
METHODS = {"get", "post", "put", "patch", "delete"}


def operations_of(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in METHODS
    ]


async def test_the_document_is_unchanged(stranger: httpx.AsyncClient) -> None:
    document = (await stranger.get("/openapi.json")).json()
    # In its own order: generators take the first media type.
    text = msgspec.json.format(msgspec.json.encode(document), indent=1)
    if os.environ.get("UPDATE_SNAPSHOT"):
        SNAPSHOT.write_bytes(text + b"\n")
    assert SNAPSHOT.read_bytes() == text + b"\n", "run again with UPDATE_SNAPSHOT=1 if the change is meant"


async def test_every_reference_is_to_a_component(stranger: httpx.AsyncClient) -> None:
    document = (await stranger.get("/openapi.json")).json()
    for reference in set(re.findall(r'"\$ref":"#/components/([^"]+)"', msgspec.json.encode(document).decode())):
        group, _, name = reference.partition("/")
        assert name in document["components"][group], reference


async def test_operations_are_named_by_their_handlers(stranger: httpx.AsyncClient, app: Any) -> None:
    document = (await stranger.get("/openapi.json")).json()
    names = [operation["operationId"] for _, _, operation in operations_of(document)]
    handlers = {
        handler.handler_name
        for route in app.routes
        if route.path.startswith("/v1")
        for handler in route.route_handlers
        if handler.resolve_include_in_schema()
    }
    assert sorted(names) == sorted(handlers)
    assert document["openapi"].startswith("3.1")


async def test_every_operation_documents_its_problems_and_its_token(stranger: httpx.AsyncClient) -> None:
    document = (await stranger.get("/openapi.json")).json()
    for path, method, operation in operations_of(document):
        responses = operation["responses"].keys()
        assert {"400", "default"} <= responses, (method, path)
        assert not {"401", "429", "500", "503"} & responses, "the common problems are one line"
        assert ("422" in responses) == ("requestBody" in operation), (method, path)
        assert operation["security"] in ([{"token": []}], [{"token": []}, {}], []), (method, path)
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
    for response in document["components"]["responses"].values():
        assert response["content"].keys() == {"application/problem+json"}


def _texts(part: Any) -> Iterator[str]:
    """All Markdown in the document."""
    for each in part if isinstance(part, list) else part.values() if isinstance(part, dict) else ():
        yield from _texts(each)
    if isinstance(part, dict) and isinstance(text := part.get("description"), str):
        yield text


async def test_angle_brackets_are_code(stranger: httpx.AsyncClient) -> None:
    """Markdown takes others for HTML, and a page drops them."""
    texts = [*_texts((await stranger.get("/openapi.json")).json())]
    assert any("<token>" in text for text in texts)
    assert [text for text in texts if "<" in re.sub("`[^`]*`", "", text)] == []


async def test_the_guide_links_to_operations(stranger: httpx.AsyncClient) -> None:
    document = (await stranger.get("/openapi.json")).json()
    anchors = {f"#/{quote(each['tags'][0])}/{each['operationId']}" for _, _, each in operations_of(document)}
    links = re.findall(r"\]\((#[^)]+)\)", document["info"]["description"])
    assert len(links) > 5
    assert {*links} <= anchors


def _schemas(part: Any) -> Iterator[Any]:
    """Every object in the document that may be a schema; an example is data."""
    if isinstance(part, list):
        for each in part:
            yield from _schemas(each)
    elif isinstance(part, dict):
        yield part
        for key, each in part.items():
            if key not in ("example", "examples"):
                yield from _schemas(each)


async def test_generators_find_plain_names_and_shared_enumerations(stranger: httpx.AsyncClient) -> None:
    document = (await stranger.get("/openapi.json")).json()
    components = document["components"]["schemas"]
    assert [name for name in components if not name.isalnum()] == []
    assert {"CharacterPage", "Style", "Visibility", "RelationshipType", "Scope"} <= components.keys()
    shared = {frozenset(component["enum"]): name for name, component in components.items() if "enum" in component}
    inline = [schema for name in ("paths", "components") for schema in _schemas(document[name]) if "enum" in schema]
    assert [schema for schema in inline if schema.get("type") != "string"] == []
    assert len([schema for schema in inline if frozenset(schema["enum"]) in shared]) == len(shared)


async def test_free_objects_take_any_member(stranger: httpx.AsyncClient) -> None:
    components = (await stranger.get("/openapi.json")).json()["components"]["schemas"]
    objects = [schema for schema in _schemas(components) if schema.get("type") == "object"]
    assert len(objects) > 50
    assert [schema for schema in objects if not schema.keys() & {"properties", "additionalProperties"}] == []


async def test_only_what_a_request_must_have_is_required(stranger: httpx.AsyncClient) -> None:
    components = (await stranger.get("/openapi.json")).json()["components"]["schemas"]
    assert components["CharacterCreate"]["required"] == ["name"]
    assert components["TemplateCreate"]["required"] == ["name"]
    assert {"items", "next_cursor"} == {*components["CharacterPage"]["required"]}
    assert "errors" not in components["Problem"]["required"]
    with_default = [
        name
        for name, component in components.items()
        if any("default" in member for member in component.get("properties", {}).values())
    ]
    assert with_default == [], "generators require a member that has a default"


async def test_the_first_media_type_is_what_generators_know(stranger: httpx.AsyncClient) -> None:
    document = (await stranger.get("/openapi.json")).json()
    others = {"application/x-ndjson", "application/schema+json"}
    for path, method, operation in operations_of(document):
        bodies = [response["content"] for response in operation["responses"].values() if "content" in response]
        for content in bodies:
            assert next(iter(content)) in {"application/json"} | others, (method, path)
        if body := operation.get("requestBody"):
            assert next(iter(body["content"])) in ("application/json", "multipart/form-data"), (method, path)


async def test_fields_and_expand_are_typed(stranger: httpx.AsyncClient) -> None:
    document = (await stranger.get("/openapi.json")).json()
    components = document["components"]["schemas"]
    answer = document["paths"]["/v1/characters"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert [part["$ref"].rpartition("/")[2] for part in answer["anyOf"]] == ["CharacterPage", "PartialCharacterPage"]
    partial = components["PartialCharacter"]
    assert partial["required"] == ["id"]
    assert partial["properties"].keys() == components["CharacterRead"]["properties"].keys()
    for name in ("PartialCharacter", "CharacterRead", "CharacterSummary"):
        owner, template = (components[name]["properties"][member]["anyOf"] for member in ("owner", "template"))
        assert [part.get("$ref", "").rpartition("/")[2] for part in owner] == ["Profile", "Owner"]
        assert [part.get("$ref", "").rpartition("/")[2] for part in template] == ["ExpandedTemplate", "Pin", ""]


async def test_what_expand_returns_is_what_is_documented(alice: httpx.AsyncClient) -> None:
    document = (await alice.get("/openapi.json")).json()
    components = document["components"]["schemas"]
    template = (await alice.post("/v1/templates", json={"name": "Expanded"})).json()
    await alice.post("/v1/characters", json={"name": "Mira", "template": template["id"]})
    shown = (await alice.get("/v1/characters", params={"owner": "me", "expand": "owner,template"})).json()["items"][0]
    assert shown["owner"].keys() == components["Profile"]["properties"].keys()
    assert shown["template"].keys() == components["ExpandedTemplate"]["properties"].keys()
