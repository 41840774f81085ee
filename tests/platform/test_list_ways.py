"""A page comes from a bounded walk or from a search for all matches: whichever it is, the list is the same."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.callers import STRANGER
from service.characters.queries import CHARACTERS, list_characters
from service.characters.schemas import CharacterQuery
from service.characters.tables import Character
from service.database.engine import DB
from service.identifiers import uuid7
from service.lists import listing, statements
from service.users.tables import User

Client = httpx.AsyncClient

LIST = "/v1/characters"
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
NUMBER = 280


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Tells how each page was found. A walk looks at 21 rows only, and four matches are many."""
    monkeypatch.setattr(statements, "WALKED", 1)
    monkeypatch.setattr(listing, "MANY", 4)
    tried: list[str] = []
    for way in ("_walk", "_find"):
        write = getattr(CHARACTERS, way)
        write.cache_clear()
        monkeypatch.setattr(CHARACTERS, way, lambda shape, way=way, write=write: tried.append(way) or write(shape))
    CHARACTERS._walkable_from.clear()
    yield tried
    monkeypatch.undo()
    CHARACTERS._walk.cache_clear()
    CHARACTERS._walkable_from.clear()


def matches(number: int) -> bool:
    """Many, then hardly any, then many again."""
    return number % 2 == 0 if not NUMBER / 3 < number < NUMBER * 2 / 3 else number % 31 == 0


async def fill(*owners: str) -> list[str]:
    """Every sixth is the second one's, and public; the first one's are private. The names of those that match."""
    ids = {user["username"]: user["id"] for user in await User.select(User.id, User.username)}
    rows = []
    for number in range(NUMBER):
        owner = owners[number % 6 == 0 and len(owners) > 1]
        at = BEGINNING + timedelta(minutes=number)
        name = f"{number:03} " + ("Lanturn" if matches(number) and number % 4 == 0 else "Oak")
        rows.append(
            Character(
                id=uuid7(), owner=ids[owner], name=name, created_at=at, updated_at=at,
                visibility="private" if owner == owners[0] and len(owners) > 1 else "public",
                tags=["t"] if matches(number) else [],
                description="By a lantern." if matches(number) and number % 4 else "",
            )
        )  # fmt: skip
    await Character.insert(*rows)
    return [row.name for row in rows if "t" in row.tags]


async def walked(client: Client, **asked: Any) -> list[str]:
    """The names on all pages."""
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(NUMBER):
        answer = (await client.get(LIST, params=asked | {"limit": "3", "fields": "name"} | cursor)).json()
        seen += [item["name"] for item in answer["items"]]
        if answer["next_cursor"] is None:
            return seen
        cursor = {"cursor": answer["next_cursor"]}
    raise AssertionError("The list does not end.")


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "name", "-updated_at", "created_at,-name"])
@pytest.mark.parametrize("filtered", [{"tags": "t"}, {"q": "lantern"}])
async def test_a_list_goes_on_from_one_way_to_the_other(
    alice: Client, charlie: Client, stranger: Client, ways: list[str], sort: str, filtered: dict[str, str]
) -> None:
    expected = await fill("alice", "charlie")
    ordered = expected[::-1] if sort.startswith("-") else expected
    assert await walked(alice, sort=sort, **filtered) == ordered
    assert ways[0] == "_find"
    assert ways.count("_walk") > 20
    assert ways.count("_find") > 3
    ways.clear()
    assert await walked(stranger, sort=sort, **filtered) == [name for name in ordered if int(name[:3]) % 6 == 0]
    assert {"_walk", "_find"} == set(ways)


async def test_names_alike_are_met_when_they_are_too_many_to_look_up(alice: Client, ways: list[str]) -> None:
    await fill("alice")
    await Character.update({Character.name: "Lanturn"}, force=True)
    ids = [row["id"] for row in await Character.select(Character.id).order_by(Character.created_at, ascending=False)]
    first = (await alice.get(LIST, params={"q": "lantern", "sort": "-created_at"})).json()
    then = (await alice.get(LIST, params={"q": "lantern", "sort": "-created_at"})).json()
    assert ways == ["_find", "_walk"]
    assert [item["id"] for item in then["items"]] == [str(one) for one in ids[:20]]
    assert first["items"] == then["items"]


async def test_a_walk_that_fills_no_page_is_given_up_for_a_while(alice: Client, ways: list[str]) -> None:
    await fill("alice")
    asked = {"tags": "t", "sort": "created_at", "limit": "15"}  # more than a walk meets
    pages = [(await alice.get(LIST, params=asked)).json()["items"] for _ in range(3)]
    assert ways == ["_find", "_walk", "_find", "_find"]
    assert pages[0] == pages[1] == pages[2]
    for key in CHARACTERS._walkable_from:
        CHARACTERS._walkable_from[key] -= listing.GIVEN_UP
    await alice.get(LIST, params=asked)
    assert ways[4:] == ["_walk", "_find"]


async def test_few_matches_and_counts_are_never_walked(alice: Client, ways: list[str]) -> None:
    await fill("alice")
    for asked in ({"tags": "t", "count": "exact"}, {"tags": "none"}, {"q": "lantern"}, {}):
        for _ in range(2):
            await alice.get(LIST, params=asked)
    assert set(ways) == {"_find"}


async def test_a_ranked_search_is_planned_for_its_words(app: Any) -> None:
    async with DB.transaction() as transaction:
        for _ in range(7):
            await list_characters(STRANGER, CharacterQuery(q="the"))
        kept = await transaction.connection.fetchval(
            "SELECT sum(generic_plans) FROM pg_prepared_statements WHERE statement LIKE 'WITH%1e6%'"
        )
    assert not kept
