"""Lists: pages, cursors, links, and unknown parameters."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from service.characters.schemas import CharacterSummary
from service.characters.tables import Character
from tests.conftest import character, faults, public, relationship, template
from tests.support.routes import routes_with

Client = httpx.AsyncClient

Fill = Callable[[Client, Client], Awaitable[tuple[str, list[str]]]]


async def characters(alice: Client, charlie: Client) -> tuple[str, list[str]]:
    """Five that are in Alice's list, her own and Charlie's mixed, and two that are not."""
    made = [
        await character(alice),
        await public(charlie),
        await character(alice, visibility="unlisted"),
        await public(charlie),
        await public(alice),
    ]
    await character(charlie)
    await character(charlie, visibility="unlisted")
    return "/v1/characters", [row["id"] for row in made]


async def templates(alice: Client, charlie: Client) -> tuple[str, list[str]]:
    made = [
        await template(alice),
        await template(charlie, visibility="public"),
        await template(alice, visibility="public"),
        await template(alice, visibility="unlisted"),
        await template(charlie, visibility="public"),
    ]
    await template(charlie)
    await template(charlie, visibility="unlisted")
    return "/v1/templates", [row["id"] for row in made]


async def relationships(alice: Client, charlie: Client) -> tuple[str, list[str]]:
    mira, sol = await character(alice), await character(alice)
    made = [
        await relationship(alice, *ends, type=name)
        for name, ends in [
            ("parent_of", (mira, sol)),
            ("betrayed", (sol, mira)),
            ("friend_of", (sol, mira)),
            ("serves", (mira, sol)),
            ("rival_of", (mira, sol)),
        ]
    ]
    return f"/v1/characters/{mira['id']}/relationships", [row["id"] for row in made]


async def trash(alice: Client, charlie: Client) -> tuple[str, list[str]]:
    """Five that Alice deleted, and one that Charlie deleted."""
    made = [await character(alice, visibility="public") for _ in range(5)]
    for row in made:
        await alice.delete(f"/v1/characters/{row['id']}")
    foreign = await public(charlie)
    await charlie.delete(f"/v1/characters/{foreign['id']}")
    return "/v1/trash", [row["id"] for row in made]


every_list = pytest.mark.parametrize("fill", [characters, templates, relationships, trash])


def ids(answer: httpx.Response) -> list[str]:
    return [item["id"] for item in answer.json()["items"]]


async def all_pages(member: Client, path: str, **parameters: Any) -> list[list[str]]:
    """The ids on each page."""
    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while len(pages) < 10:
        answer = await member.get(path, params=parameters | cursor)
        assert answer.status_code == 200, answer.text
        pages.append(ids(answer))
        if (token := answer.json()["next_cursor"]) is None:
            return pages
        cursor = {"cursor": token}
    raise AssertionError("The list does not end.")


@every_list
@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (100, [5])])
async def test_pages_show_each_row_once_newest_first(
    alice: Client, charlie: Client, fill: Fill, limit: int, sizes: list[int]
) -> None:
    path, made = await fill(alice, charlie)
    pages = await all_pages(alice, path, limit=limit)
    assert [len(page) for page in pages] == sizes
    assert [row for page in pages for row in page] == made[::-1]


@every_list
async def test_pages_stay_in_order_while_rows_are_added_and_deleted(alice: Client, charlie: Client, fill: Fill) -> None:
    path, made = await fill(alice, charlie)
    first = await alice.get(f"{path}?limit=2")
    if fill is characters:
        await character(alice, name="Newer")
        await alice.delete(f"/v1/characters/{made[4]}")
    if fill is templates:
        await template(alice, name="Newer")
    if fill is relationships:
        await alice.delete(f"/v1/relationships/{made[3]}")
    if fill is trash:
        await alice.delete(f"/v1/characters/{(await character(alice))['id']}")
        await alice.delete(f"/v1/trash/{made[3]}")
    rest = await alice.get(f"{path}?cursor={first.json()['next_cursor']}")
    assert ids(first) + ids(rest) == made[::-1]


@every_list
async def test_a_page_links_to_the_next(alice: Client, charlie: Client, fill: Fill) -> None:
    path, made = await fill(alice, charlie)
    first = await alice.get(f"{path}?limit=2")
    link = first.headers["link"]
    assert link == f'<{path}?limit=2&cursor={first.json()["next_cursor"]}>; rel="next"'
    second = await alice.get(link[1 : link.index(">")])
    assert ids(second) == made[::-1][2:4]
    assert first.json()["next_cursor"] not in second.headers["link"]
    whole = await alice.get(path)
    assert (whole.json()["next_cursor"], "link" in whole.headers) == (None, False)


async def test_a_page_has_twenty_items_by_default(alice: Client) -> None:
    for _ in range(21):
        await character(alice)
    assert [len(page) for page in await all_pages(alice, "/v1/characters")] == [20, 1]


@every_list
async def test_a_cursor_of_another_list_or_an_altered_one_is_refused(
    alice: Client, charlie: Client, fill: Fill
) -> None:
    path, _ = await fill(alice, charlie)
    cursor: str = (await alice.get(f"{path}?limit=1")).json()["next_cursor"]
    other = await character(alice)
    lists = {"/v1/characters", "/v1/templates", "/v1/trash", f"/v1/characters/{other['id']}/relationships"}
    others = lists - {path}
    for elsewhere in others:
        answer = await alice.get(f"{elsewhere}?cursor={cursor}")
        assert (answer.status_code, faults(answer).keys()) == (400, {"cursor"})
    for at in range(0, len(cursor), 7):
        tampered = cursor[:at] + ("A" if cursor[at] != "A" else "B") + cursor[at + 1 :]
        assert (await alice.get(f"{path}?cursor={tampered}")).status_code == 400
    for spelling in (cursor[:-1], f"{cursor}=", f"{cursor}=="):
        assert (await alice.get(f"{path}?cursor={spelling}")).status_code == 400


@every_list
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("limit=0", {"limit": "Must be at least 1."}),
        ("limit=101", {"limit": "Must be at most 100."}),
        ("limit=-1", {"limit": "Must be at least 1."}),
        ("limit=ten", {"limit": "Must be an integer."}),
        ("limit=1.5", {"limit": "Must be an integer."}),
        ("limit=", {"limit": "Must be an integer."}),
        ("limit=%00", {"limit": "Must not contain the NUL character."}),
        ("limit=1&limit=2", {"limit": "Must be given only once."}),
        ("cursor=" + "a" * 2_001, {"cursor": "Must be at most 2000 characters."}),
        ("cursor=%00", {"cursor": "Must not contain the NUL character."}),
        ("cursor=", {"cursor": "Is not a cursor of this list; start again without it."}),
        ("limit=0&cursor=" + "a" * 2_001, {
            "limit": "Must be at least 1.", "cursor": "Must be at most 2000 characters.",
        }),
        ("page=2&%00=x&limt=1", {
            "page": "Is not a known parameter.",
            "\0": "Must not contain the NUL character.",
            "limt": "Is not a known parameter.",
        }),
    ],
)  # fmt: skip
async def test_a_list_refuses(alice: Client, charlie: Client, fill: Fill, query: str, expected: dict[str, str]) -> None:
    path, _ = await fill(alice, charlie)
    answer = await alice.get(f"{path}?{query}")
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "/problems/bad-request"
    assert faults(answer) == expected


async def test_a_sort_key_is_named_once(stranger: Client) -> None:
    answer = await stranger.get("/v1/characters?sort=name,-name")
    assert (answer.status_code, faults(answer).keys()) == (400, {"sort"})


@pytest.mark.parametrize(
    "query", ["limit=" + "9" * 5_000, "limit=%FF", "cursor=%F0%9F", "cursor=a%0Ab", "=", "&&=1", "a" * 8_000]
)
async def test_a_malformed_query_is_refused(stranger: Client, query: str) -> None:
    assert (await stranger.get(f"/v1/characters?{query}")).status_code == 400


async def test_a_stranger_lists_the_public_ones(alice: Client, charlie: Client, stranger: Client) -> None:
    _, made = await characters(alice, charlie)
    assert await all_pages(stranger, "/v1/characters", limit=2) == [[made[4], made[3]], [made[1]]]


async def test_lists_carry_summaries(alice: Client) -> None:
    mira = await character(alice, description="Long", attributes={"a": 1})
    (item,) = (await alice.get("/v1/characters")).json()["items"]
    assert item.keys() == {*CharacterSummary.__struct_fields__} < mira.keys()
    assert "description" not in item
    assert item == {name: mira[name] for name in item}


async def test_rows_with_equal_times_are_each_on_one_page(alice: Client, charlie: Client) -> None:
    path, made = await characters(alice, charlie)
    (newest,) = await Character.select(Character.created_at).where(Character.id == made[4])
    await Character.update({Character.created_at: newest["created_at"]}, force=True)
    assert [row for page in await all_pages(alice, path, limit=2) for row in page] == made[::-1]


@pytest.mark.parametrize("route", sorted(routes_with("list")))
async def test_every_list_has_bounds(alice: Client, route: str) -> None:
    path = re.sub("{[a-z_]+}", "0199a0a0-0000-7000-8000-000000000000", route.removeprefix("GET "))
    for query in ("limit=0", "limit=101", "limit=1&limit=2", "cursor=" + "a" * 2_001, "page=2"):
        assert (await alice.get(f"{path}?{query}")).status_code == 400, query
    assert (await alice.get(f"{path}?limit=100")).status_code in (200, 404)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("tags=night&tags=rain", ["both"]),
        ("tags=night,rain", ["both"]),
        ("tags=night%2Crain", ["both"]),
        ("tags.any=night&tags.any=rain,fog", ["both", "night"]),
        ("tags=%22night,%20city%22", ["comma"]),
        ("tags=%22night,%20city%22,fog", []),
        ("tags=%22the%20%22%22old%22%22%20one%22&tags=%22night,%20city%22", ["comma"]),
        ("tags=5%22%20tall", []),
        ("sort=name&sort=-created_at&fields=name&fields=id", ["both", "comma", "night"]),
    ],
)
async def test_lists_are_sent_by_commas_or_repeated(alice: Client, query: str, expected: list[str]) -> None:
    for name, tags in [("both", ["night", "rain"]), ("night", ["night"]), ("comma", ["night, city", 'the "old" one'])]:
        await character(alice, name=name, tags=tags)
    answer = await alice.get(f"/v1/characters?owner=me&{query}")
    assert answer.status_code == 200, answer.text
    assert sorted(item["name"] for item in answer.json()["items"]) == expected


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("tags=%22night", "Must close each quote that begins a part, and go on with a comma."),
        ("tags=%22night%22city", "Must close each quote that begins a part, and go on with a comma."),
        ("tags=" + "&tags=".join(map(str, range(21))), "Must have at most 20 items."),
        (
            "sort=name&sort=colour",
            "Must be one or more of created_at, updated_at, name, rank, each once. A leading - means descending.",
        ),
    ],
)
async def test_a_list_parameter_that_cannot_be_read(stranger: Client, query: str, fault: str) -> None:
    answer = await stranger.get(f"/v1/characters?{query}")
    assert answer.status_code == 400, answer.text
    assert [*faults(answer).values()] == [fault]
