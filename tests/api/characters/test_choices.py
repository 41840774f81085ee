"""``style.in``, ``visibility.in`` and ``type.in``: filters by several values of an enumeration, in every list."""

from typing import get_args

import httpx
import pytest

from service.relationships.types import TypeName
from service.schemas import Style
from tests.conftest import character, faults, relationship, template
from tests.platform.test_lists import all_pages

Client = httpx.AsyncClient

LISTS = {"/v1/characters": character, "/v1/templates": template}
MADE = {  # by name: style, visibility
    "Ada": ("anime", "private"),
    "Bob": ("fantasy", "unlisted"),
    "Cid": ("fantasy", "public"),
    "Dora": (None, "public"),
}


async def fill(alice: Client, charlie: Client, path: str) -> None:
    for member, suffix in ((alice, ""), (charlie, "*")):
        for name, (style, visibility) in MADE.items():
            await LISTS[path](member, name=f"{name}{suffix}", style=style, visibility=visibility)


async def names(member: Client, path: str, query: str) -> str:
    answer = await member.get(f"{path}?{query}&sort=name")
    assert answer.status_code == 200, answer.text
    return " ".join(item["name"] for item in answer.json()["items"])


@pytest.mark.parametrize("path", LISTS)
async def test_lists_of_what_is_owned(alice: Client, charlie: Client, stranger: Client, path: str) -> None:
    await fill(alice, charlie, path)
    for query, of_alice, of_stranger in (
        ("style.in=anime,fantasy", "Ada Bob Cid Cid*", "Cid Cid*"),
        ("style.in=fantasy&style.in=anime", "Ada Bob Cid Cid*", "Cid Cid*"),
        ('style.in="anime",anime', "Ada", ""),
        ("style.in=vintage,cartoon", "", ""),
        (f"style.in={','.join(get_args(Style))}", "Ada Bob Cid Cid*", "Cid Cid*"),
        ("style.in=anime,fantasy&style=anime", "Ada", ""),
        ("visibility.in=private,public", "Ada Cid Cid* Dora Dora*", "Cid Cid* Dora Dora*"),
        ("visibility.in=private,unlisted", "Ada Bob", ""),
        ("visibility.in=unlisted", "Bob", ""),
        ("visibility.in=unlisted,private&q=bob", "Bob", ""),
        ("visibility.in=unlisted,private&owner=alice", "Ada Bob", ""),
        ("visibility.in=unlisted,private&owner=charlie", "", ""),
        ("visibility.in=unlisted,private&owner=platform", "", ""),
        ("visibility.in=private,unlisted,public", "Ada Bob Cid Cid* Dora Dora*", "Cid Cid* Dora Dora*"),
        ("visibility.in=public,private&style.in=fantasy,anime", "Ada Cid Cid*", "Cid Cid*"),
    ):
        assert await names(alice, path, query) == of_alice, query
        assert await names(stranger, path, query) == of_stranger, query
    counted = await alice.get(f"{path}?visibility.in=private,unlisted&count=exact")
    assert counted.json()["total"] == 2
    counted = await stranger.get(f"{path}?visibility.in=private,unlisted&count=estimated")
    assert counted.json()["total"] == 0


@pytest.mark.parametrize("path", LISTS)
async def test_pages_do_not_depend_on_the_order_of_the_values(alice: Client, charlie: Client, path: str) -> None:
    await fill(alice, charlie, path)
    pages = await all_pages(alice, path, limit=3, **{"style.in": "anime,fantasy"})
    assert [len(page) for page in pages] == [3, 1]
    first = (await alice.get(f"{path}?style.in=anime,fantasy&limit=3")).json()
    second = await alice.get(f"{path}?style.in=fantasy,anime&limit=3&cursor={first['next_cursor']}")
    assert len(second.json()["items"]) == 1
    other = await alice.get(f"{path}?style.in=fantasy&cursor={first['next_cursor']}")
    assert faults(other).keys() == {"cursor"}


async def test_the_trash(alice: Client) -> None:
    for name, (style, _) in MADE.items():
        await alice.delete(f"/v1/characters/{(await character(alice, name=name, style=style))['id']}")
    found = (await alice.get("/v1/trash?style.in=anime,fantasy")).json()["items"]
    assert sorted(item["name"] for item in found) == ["Ada", "Bob", "Cid"]


async def test_relationships_are_found_by_their_types_from_this_side(alice: Client) -> None:
    mira, sol, otto = [await character(alice, name=name) for name in ("Mira", "Sol", "Otto")]
    await relationship(alice, mira, sol, type="mentor_of")
    await relationship(alice, otto, mira, type="parent_of")
    await relationship(alice, mira, otto, type="rival_of")
    path = f"/v1/characters/{mira['id']}/relationships"
    for query, expected in (
        ("type.in=mentor_of,child_of", {"mentor_of", "child_of"}),
        ("type.in=mentor_of&type.in=rival_of", {"mentor_of", "rival_of"}),
        ("type.in=student_of,parent_of", set()),
        ("type.in=mentor_of,child_of&type=child_of", {"child_of"}),
        (f"type.in={','.join(get_args(TypeName))}", {"mentor_of", "child_of", "rival_of"}),
    ):
        answer = await alice.get(f"{path}?{query}")
        assert {item["type"] for item in answer.json()["items"]} == expected, query


@pytest.mark.parametrize(
    ("path", "parameter", "known"),
    [
        ("/v1/characters", "style.in", "anime"),
        ("/v1/characters", "visibility.in", "private"),
        ("/v1/templates", "style.in", "anime"),
        ("/v1/templates", "visibility.in", "public"),
        ("/v1/trash", "style.in", "anime"),
        ("/v1/characters/{id}/relationships", "type.in", "rival_of"),
    ],
)
async def test_what_they_refuse(alice: Client, path: str, parameter: str, known: str) -> None:
    url = path.replace("{id}", (await character(alice))["id"])
    for values, fault in (
        ("", "Must be one of:"),
        (f"{known},x", "Must be one of:"),
        (f"{known},", "Must be one of:"),
        (f'"{known}', "Must close each quote"),
        (",".join([known] * 101), "Must have at most 100 items."),
    ):
        answer = await alice.get(url, params={parameter: values})
        assert answer.status_code == 400, values
        assert faults(answer)[parameter].startswith(fault), values
    assert (await alice.get(url, params={parameter: ",".join([known] * 100)})).status_code == 200
