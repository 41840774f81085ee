"""The check of every answer that the tests' clients make: what it lets pass, and what it does not."""

import httpx
import msgspec
import pytest
from litestar.handlers.http_handlers import HTTPRouteHandler

from service.app import app
from tests.support.answers import check_answer

MIRA = {
    "id": "0199a0a0-0000-7000-8000-000000000000", "version": 1, "name": "Mira", "style": None, "tags": [],
    "visibility": "private", "owner": {"id": "0199a0a0-0000-7000-8000-000000000001", "username": "alice"},
    "template": None, "portrait": None, "created_at": "2026-01-31T23:59:59Z", "updated_at": "2026-01-31T23:59:59Z",
}  # fmt: skip


def _check(item: dict[str, object], query: str = "") -> None:
    (route,) = [route for route in app.routes if route.path == "/v1/characters"]
    handlers: list[HTTPRouteHandler] = [each for each in route.route_handlers if "GET" in each.http_methods]
    page = msgspec.json.encode({"items": [item], "next_cursor": None})
    check_answer(handlers[0], httpx.QueryParams(query), page)


@pytest.mark.parametrize(
    ("item", "query"),
    [
        (MIRA, ""),
        ({"id": MIRA["id"], "name": "Mira"}, "fields=name"),
        ({"id": MIRA["id"], "name": "Mira", "attributes": {}}, "fields=name,attributes"),
        (MIRA | {"owner": {"bio": ""}}, "expand=owner"),
        ({"id": MIRA["id"], "owner": {"bio": ""}, "name": "Mira"}, "fields=name&expand=owner"),
    ],
)
def test_what_a_route_declares_passes(item: dict[str, object], query: str) -> None:
    _check(item, query)


@pytest.mark.parametrize(
    ("item", "query"),
    [
        ({name: value for name, value in MIRA.items() if name != "style"}, ""),
        (MIRA | {"colour": "red"}, ""),
        (MIRA | {"name": 1}, ""),
        (MIRA | {"owner": {"id": MIRA["id"]}}, ""),
        (MIRA | {"owner": {"bio": ""}}, ""),
        (MIRA | {"owner": {"bio": ""}}, "expand=template"),
        ({"id": MIRA["id"]}, "fields=name"),
        (MIRA, "fields=name"),
    ],
)
def test_all_else_fails(item: dict[str, object], query: str) -> None:
    with pytest.raises(AssertionError, match="does not answer"):
        _check(item, query)
