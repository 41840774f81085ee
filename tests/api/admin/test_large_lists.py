"""The lists of the admin site: what is found, and what is refused for large tables."""

from typing import Any

import httpx
import pytest

from service.admin import large_lists
from tests.conftest import character

Client = httpx.AsyncClient

pytestmark = pytest.mark.filterwarnings("ignore:If running sessions in production:UserWarning")


async def names(operator: Client, query: str) -> list[str]:
    path = "/admin/api/tables/characters/"
    rows = (await operator.get(f"{path}?__order=-id&{query}")).json()["rows"]
    assert (await operator.get(f"{path}count/?{query}")).json()["count"] == len(rows)
    return [row["name"] for row in rows]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["Odo", "Élan Halloran", "Mira Halloran"]),
        ("name=hallor", ["Élan Halloran", "Mira Halloran"]),
        ("name=elan", ["Élan Halloran"]),
        ("name=mira&name__match=starts", ["Mira Halloran"]),
        ("name=ran&name__match=starts", []),
        ("name=ran&name__match=ends", ["Élan Halloran", "Mira Halloran"]),
        ("name=odo&name__match=exact", ["Odo"]),
        ("name=od&name__match=exact", []),
        ("tags[]=SEA", ["Odo", "Mira Halloran"]),
        ("visibility=public", ["Odo"]),
        ("visibility=unlisted", []),
        ("deleted_at__operator=not_null", ["Odo"]),
        ("deleted_at__operator=not_null&name=hallor", []),
        ("name=null", []),
    ],
)
async def test_characters_are_found_also_in_the_trash(
    operator: Client, alice: Client, query: str, found: list[str]
) -> None:
    await character(alice, name="Mira Halloran", tags=["sea"])
    await character(alice, name="Élan Halloran")
    odo = await character(alice, name="Odo", tags=["Sea"], visibility="public")
    assert (await alice.delete(f"/v1/characters/{odo['id']}")).status_code == 204
    assert await names(operator, query) == found


async def test_many_matches_are_shown_newest_first_too(
    operator: Client, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_lists, "_MOST_SORTED", 1)
    for number in range(3):
        await character(alice, name=f"Mira {number}")
    assert await names(operator, "name=mira") == ["Mira 2", "Mira 1", "Mira 0"]


async def test_large_tables_are_counted_paged_and_sorted_within_bounds(
    operator: Client, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        await character(alice, name=f"Mira {number}")
    path = "/admin/api/tables/characters/"
    assert (await operator.get(f"{path}?__order=name")).status_code == 200
    monkeypatch.setattr(large_lists, "MOST_COUNTED", 3)
    assert (await operator.get(f"{path}count/")).json()["count"] == 4
    assert (await operator.get(f"{path}?__page=3&__page_size=2")).status_code == 400
    assert (await operator.get(f"{path}?__page=2&__page_size=2")).status_code == 200
    for order in ("name", "-id,name"):
        assert (await operator.get(f"{path}?__order={order}")).status_code == 400
    assert (await operator.get(f"{path}?__order=-id")).status_code == 200
    assert (await operator.get(f"{path}?__order=name&name=Mira 4")).status_code == 200


async def test_a_choice_of_a_row_offers_few_by_their_names(operator: Client, alice: Client) -> None:
    mira = await character(alice, name="Mira")
    anna = await character(alice, name="Anna Mirabelle")
    await character(alice, name="Odo")
    path: Any = "/admin/api/tables/characters/ids/"
    found = (await operator.get(f"{path}?search=mir&limit=5")).json()
    assert list(found.items()) == [(anna["id"], "Anna Mirabelle"), (mira["id"], "Mira")]  # newest first
    assert list((await operator.get(path)).json().values()) == ["Odo", "Anna Mirabelle", "Mira"]
    assert list((await operator.get(f"{path}?limit=1&offset=1")).json().values()) == ["Anna Mirabelle"]
    assert (await operator.get(f"{path}?limit=x")).status_code == 400
