"""Every list can be sorted by each of its keys and by each pair of them, on all pages."""

from itertools import permutations
from typing import Any

import httpx
import pytest

from tests.conftest import character, relationship, template
from tests.support.routes import routes_with

Client = httpx.AsyncClient

SEARCHES = [{"q": "vera", "tags": "a"}]
FILTERS = [{}, {"tags": "a"}]


async def characters(alice: Client) -> str:
    for _ in range(3):
        await character(alice, name="Vera", tags=["a"])
    return "/v1/characters"


async def templates(alice: Client) -> str:
    for _ in range(3):
        await template(alice, name="Vera", tags=["a"])
    return "/v1/templates"


async def relationships(alice: Client) -> str:
    mira = await character(alice)
    for _ in range(3):
        await relationship(alice, mira, await character(alice))
    return f"/v1/characters/{mira['id']}/relationships"


async def trash(alice: Client) -> str:
    for _ in range(3):
        await alice.delete(f"/v1/characters/{(await character(alice))['id']}")
    return "/v1/trash"


LISTS = {
    "/v1/characters": characters,
    "/v1/templates": templates,
    "/v1/characters/{character_id}/relationships": relationships,
    "/v1/trash": trash,
}


async def sort_keys(client: Client, path: str) -> list[str]:
    """Of a list, as the OpenAPI document has them: each ascending and descending."""
    operation = (await client.get("/openapi.json")).json()["paths"][path]["get"]
    found = [each["schema"] for each in operation["parameters"] if each.get("name") == "sort"]
    return found[0]["items"]["enum"] if found else []


def orders(keys: list[str]) -> list[tuple[str, ...]]:
    pairs = [pair for pair in permutations(keys, 2) if pair[0].strip("-") != pair[1].strip("-")]
    return [*((key,) for key in keys), *pairs]


@pytest.mark.parametrize("path", LISTS)
async def test_a_list_has_two_pages_in_each_order(alice: Client, path: str) -> None:
    address = await LISTS[path](alice)
    keys = await sort_keys(alice, path)
    assert keys
    for order in orders(keys):
        searched: list[dict[str, Any]] = SEARCHES if "rank" in keys else []
        filtered: list[dict[str, Any]] = FILTERS if "rank" in keys else [{}]
        for given in searched if {"rank", "-rank"} & {*order} else searched + filtered:
            parameters = {"sort": ",".join(order), "limit": 2, **given}
            first = await alice.get(address, params=parameters)
            assert first.status_code == 200, (parameters, first.text)
            second = await alice.get(address, params=parameters | {"cursor": first.json()["next_cursor"]})
            assert second.status_code == 200, (parameters, second.text)
            assert len({row["id"] for row in first.json()["items"] + second.json()["items"]}) == 3, parameters


async def test_the_table_has_each_list_that_can_be_sorted(stranger: Client) -> None:
    lists = {route.partition(" ")[2] for route in routes_with("list")}
    assert {path for path in lists if await sort_keys(stranger, path)} == {*LISTS}
