"""A page comes from the bounded or from the ordinary statement. The list is the same."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.callers import ANONYMOUS
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
def used(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The statements that answered, in order. A bounded page reads 21 rows only, and is tried from four matches on."""
    monkeypatch.setattr(statements, "MAX_READ_PER_ROW", 1)
    monkeypatch.setattr(listing, "BOUNDED_FROM", 4)
    used: list[str] = []
    for name, attribute in (("bounded", "_bounded_page_of"), ("ordinary", "_page_of")):
        write = getattr(CHARACTERS, attribute)
        write.cache_clear()
        monkeypatch.setattr(
            CHARACTERS, attribute, lambda shape, name=name, write=write: used.append(name) or write(shape)
        )
    CHARACTERS._bounded_since.clear()
    yield used
    monkeypatch.undo()
    CHARACTERS._bounded_page_of.cache_clear()
    CHARACTERS._bounded_since.clear()


def matches(number: int) -> bool:
    """Many, then hardly any, then many again."""
    return number % 2 == 0 if not NUMBER / 3 < number < NUMBER * 2 / 3 else number % 31 == 0


async def fill(*owners: str) -> list[str]:
    """The names of the matching characters. With two owners, every sixth is the second one's and public; the others are
    the first one's and private."""
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


async def all_names(client: Client, **parameters: Any) -> list[str]:
    """The names on all pages."""
    seen: list[str] = []
    cursor: dict[str, str] = {}
    for _ in range(NUMBER):
        answer = (await client.get(LIST, params=parameters | {"limit": "3", "fields": "name"} | cursor)).json()
        seen += [item["name"] for item in answer["items"]]
        if answer["next_cursor"] is None:
            return seen
        cursor = {"cursor": answer["next_cursor"]}
    raise AssertionError("The list does not end.")


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "name", "-updated_at", "created_at,-name"])
@pytest.mark.parametrize("filtered", [{"tags": "t"}, {"q": "lantern"}])
async def test_a_list_of_both_kinds_of_pages_is_complete_and_in_order(
    alice: Client, charlie: Client, stranger: Client, used: list[str], sort: str, filtered: dict[str, str]
) -> None:
    expected = await fill("alice", "charlie")
    ordered = expected[::-1] if sort.startswith("-") else expected
    assert await all_names(alice, sort=sort, **filtered) == ordered
    assert used[0] == "ordinary"
    assert used.count("bounded") > 20
    assert used.count("ordinary") > 3
    used.clear()
    assert await all_names(stranger, sort=sort, **filtered) == [name for name in ordered if int(name[:3]) % 6 == 0]
    assert {"bounded", "ordinary"} == set(used)


async def test_more_similar_names_than_are_looked_up_are_found_too(alice: Client, used: list[str]) -> None:
    await fill("alice")
    await Character.update({Character.name: "Lanturn"}, force=True)
    ids = [row["id"] for row in await Character.select(Character.id).order_by(Character.created_at, ascending=False)]
    first = (await alice.get(LIST, params={"q": "lantern", "sort": "-created_at"})).json()
    second = (await alice.get(LIST, params={"q": "lantern", "sort": "-created_at"})).json()
    assert used == ["ordinary", "bounded"]
    assert [item["id"] for item in second["items"]] == [str(one) for one in ids[:20]]
    assert first["items"] == second["items"]


async def test_a_bounded_page_that_was_not_full_is_not_tried_for_a_while(alice: Client, used: list[str]) -> None:
    await fill("alice")
    parameters = {"tags": "t", "sort": "created_at", "limit": "15"}  # more matches than in the rows that are read
    pages = [(await alice.get(LIST, params=parameters)).json()["items"] for _ in range(3)]
    assert used == ["ordinary", "bounded", "ordinary", "ordinary"]
    assert pages[0] == pages[1] == pages[2]
    for key in CHARACTERS._bounded_since:
        CHARACTERS._bounded_since[key] -= listing.RETRY_AFTER
    await alice.get(LIST, params=parameters)
    assert used[4:] == ["bounded", "ordinary"]


async def test_counts_and_lists_with_few_matches_use_ordinary_pages(alice: Client, used: list[str]) -> None:
    await fill("alice")
    for parameters in ({"tags": "t", "count": "exact"}, {"tags": "none"}, {"q": "lantern"}, {}):
        for _ in range(2):
            await alice.get(LIST, params=parameters)
    assert set(used) == {"ordinary"}


async def test_a_ranked_search_is_planned_for_its_words(app: Any) -> None:
    async with DB.transaction() as transaction:
        for _ in range(7):
            await list_characters(ANONYMOUS, CharacterQuery(q="the"))
        kept = await transaction.connection.fetchval(
            "SELECT sum(generic_plans) FROM pg_prepared_statements WHERE statement LIKE 'WITH%1e6%'"
        )
    assert not kept
