"""The OpenAPI document is a contract: it changes only on purpose (UPDATE_SNAPSHOT=1 writes it anew)."""

import os
from pathlib import Path
from typing import Any

import httpx
import msgspec

SNAPSHOT = Path(__file__).parent / "openapi.json"
METHODS = {"get", "post", "put", "patch", "delete"}


def _operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if method in METHODS
    ]


async def test_the_document_is_unchanged(stranger: httpx.AsyncClient) -> None:
    document = (await stranger.get("/openapi.json")).json()
    text = msgspec.json.format(msgspec.json.encode(document, order="sorted"), indent=1)
    if os.environ.get("UPDATE_SNAPSHOT"):
        SNAPSHOT.write_bytes(text + b"\n")
    assert SNAPSHOT.read_bytes() == text + b"\n", "run again with UPDATE_SNAPSHOT=1 if the change is meant"


async def test_operations_are_named_by_their_handlers(stranger: httpx.AsyncClient, app: Any) -> None:
    document = (await stranger.get("/openapi.json")).json()
    names = [operation["operationId"] for _, _, operation in _operations(document)]
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
    for path, method, operation in _operations(document):
        responses = operation["responses"].keys()
        assert {"400", "401", "429", "500", "503"} <= responses, (method, path)
        assert ("422" in responses) == ("requestBody" in operation), (method, path)
        assert {"token": []} in operation["security"], (method, path)
        assert operation["summary"], (method, path)
    for response in document["components"]["responses"].values():
        assert response["content"].keys() == {"application/problem+json"}
