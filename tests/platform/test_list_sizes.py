"""A page ends early before its items exceed a size together. No row is skipped."""

from datetime import datetime
from typing import Any

import httpx
import pytest

from service.changes import queries as changes
from service.characters.queries import CHARACTERS
from service.characters.tables import Character
from service.database.engine import DB
from service.identifiers import uuid7
from service.lists.cursors import encode_cursor
from service.lists.sizes import MAX_PAGE_SIZE
from service.templates.tables import TemplateVersion
from service.users.tables import User
from tests.conftest import character, create, template

Client = httpx.AsyncClient

EXTENSIONS = 250 * 1024  # bytes; less than the most that one character may have
NUMBER = 60
ITEM = 4 * 1024  # bytes besides the extensions


async def pages(member: Client, path: str, **parameters: str) -> list[httpx.Response]:
    answers = []
    cursor: dict[str, str] = {}
    for _ in range(NUMBER + 1):
        answer = await member.get(path, params=parameters | cursor)
        assert answer.status_code == 200
        answers.append(answer)
        if answer.json()["next_cursor"] is None:
            return answers
        assert "next" in answer.links
        cursor = {"cursor": answer.json()["next_cursor"]}
    raise AssertionError("The list does not end.")


def ids(answers: list[httpx.Response], name: str = "id") -> list[Any]:
    return [item[name] for answer in answers for item in answer.json()["items"]]


@pytest.fixture
async def large(alice: Client) -> list[str]:
    """The ids of many characters that are as large as allowed, the newest first."""
    (owner,) = await User.select(User.id)
    document = '{"notes": "%s"}' % ("é" * (EXTENSIONS // 2))
    rows = [Character(id=uuid7(), owner=owner["id"], name="Mira", extensions=document) for _ in range(NUMBER)]
    for row in rows:
        await Character.insert(row)
    return [str(row.id) for row in reversed(rows)]


@pytest.mark.parametrize("limit", ["20", "100"])
async def test_a_page_of_large_characters_ends_early(alice: Client, large: list[str], limit: str) -> None:
    answers = await pages(alice, "/v1/characters", fields="extensions", limit=limit)
    assert ids(answers) == large
    sizes = [len(answer.content) for answer in answers]
    assert max(sizes) <= MAX_PAGE_SIZE + ITEM
    assert min(sizes[:-1]) > MAX_PAGE_SIZE - EXTENSIONS - ITEM, "no page is smaller than it has to be"
    assert len(ids(answers[:1])) < int(limit)


async def test_postgres_does_not_send_what_a_page_leaves_out(
    alice: Client, large: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    page = CHARACTERS._page

    async def note(*given: Any) -> Any:
        rows = await page(*given)
        read.append(sum(len(row["item"].encode()) for row in rows))
        return rows

    monkeypatch.setattr(CHARACTERS, "_page", note)
    await alice.get("/v1/characters?fields=extensions&limit=100")
    assert MAX_PAGE_SIZE < read[0] <= MAX_PAGE_SIZE + EXTENSIONS + ITEM


async def test_a_total_counts_what_a_page_leaves_out(alice: Client, large: list[str]) -> None:
    answer = (await alice.get("/v1/characters?fields=extensions&limit=100&count=exact")).json()
    assert answer["total"] == NUMBER > len(answer["items"])


async def test_a_page_of_small_characters_is_full(alice: Client, large: list[str]) -> None:
    answer = (await alice.get("/v1/characters?limit=50")).json()
    assert [item["id"] for item in answer["items"]] == large[:50]


async def test_a_page_of_bounded_reads_ends_early(
    alice: Client, large: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.lists.listing.BOUNDED_FROM", 4)
    CHARACTERS._bounded_since.clear()
    await DB.run_ddl("UPDATE characters SET tags = '{a}'")
    for _ in range(2):  # the second time, the list is known to have many matches
        answers = await pages(alice, "/v1/characters", fields="extensions", limit="20", tags="a")
        assert ids(answers) == large
        assert max(len(answer.content) for answer in answers) <= MAX_PAGE_SIZE + ITEM
    assert CHARACTERS._bounded_since
    CHARACTERS._bounded_since.clear()


async def test_a_page_of_large_versions_ends_early(alice: Client) -> None:
    fighter = await template(alice)
    schema = '{"type": "object", "description": "%s"}' % ("x" * 900_000)
    for number in range(2, 12):
        await TemplateVersion.insert(
            TemplateVersion(id=uuid7(), template=fighter["id"], number=number, prompt="", attribute_schema=schema)
        )
    answers = await pages(alice, f"/v1/templates/{fighter['id']}/versions", limit="100")
    assert ids(answers, "number") == [*range(1, 12)]
    assert max(len(answer.content) for answer in answers) <= MAX_PAGE_SIZE + ITEM
    assert len(answers) == 3


async def test_revisions_and_relationships_have_pages_as_before(alice: Client) -> None:
    mira, otto = await character(alice), await character(alice, name="Otto")
    path = f"/v1/characters/{mira['id']}"
    for number in range(3):
        await alice.patch(path, json={"name": f"Mira {number}"})
    await create(alice, f"{path}/relationships", target=otto["id"], type="parent_of")
    assert ids(await pages(alice, f"{path}/revisions", limit="2"), "number") == [4, 3, 2, 1]
    assert len(ids(await pages(alice, f"{path}/relationships", limit="1"))) == 1


async def test_a_page_of_changes_ends_early(alice: Client, large: list[str]) -> None:
    read: list[str] = []
    after: dict[str, str] = {}
    while True:
        answer = await alice.get("/v1/changes", params={"limit": "100"} | after)
        assert len(answer.content) <= MAX_PAGE_SIZE + 2 * ITEM
        page = answer.json()
        if not page["items"]:
            break
        read += [item["id"] for item in page["items"]]
        after = {"after": page["next_cursor"]}
    assert sorted(read) == sorted(large)


async def test_a_page_of_changes_that_ended_early_is_not_the_end_of_the_feed(
    alice: Client, large: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cursor expires as if the reader had never reached the end, because it may have missed purges."""
    complete_at: list[datetime] = []

    def note(keys: Any, shape: str) -> str:
        complete_at.append(keys[2])
        return encode_cursor(keys, shape)

    monkeypatch.setattr(changes, "encode_cursor", note)
    first = (await alice.get("/v1/changes?limit=1")).json()["next_cursor"]
    after = (await alice.get("/v1/changes", params={"limit": "100", "after": first})).json()["next_cursor"]
    await DB.run_ddl("UPDATE characters SET extensions = '{}'")
    await alice.get("/v1/changes", params={"limit": "100", "after": after})
    assert complete_at[0] == complete_at[1] < complete_at[2]


async def test_a_list_goes_on_behind_an_item_that_is_larger_than_a_page(alice: Client) -> None:
    (owner,) = await User.select(User.id)
    huge = '{"notes": "%s"}' % ("x" * (MAX_PAGE_SIZE + 1))
    rows = [Character(id=uuid7(), owner=owner["id"], name="Mira", extensions=text) for text in ("{}", huge, "{}", huge)]
    for row in rows:
        await Character.insert(row)
    assert ids(await pages(alice, "/v1/characters", fields="extensions")) == [str(row.id) for row in reversed(rows)]
