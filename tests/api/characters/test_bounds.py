"""The largest names, descriptions and tags that a character may have."""

import random

import httpx
import pytest

from tests.conftest import character

Client = httpx.AsyncClient
CHARACTERS = "/v1/characters"
CHANCE = random.Random(7)
TAGS = [f"{number} ".ljust(100, "x") for number in range(200)]
HAN = CHANCE.sample([*map(chr, range(0x20000, 0x2A6D0))], 42_000)  # different letters, of 4 bytes each
WORDS = " ".join(f"{number:x}" for number in range(0x10000, 0x10000 + 16_666))


@pytest.mark.parametrize(
    ("description", "tags", "early", "late"),
    [
        (
            "".join(HAN[20_000:42_000]) + "".join(CHANCE.choices(HAN, k=78_000)),
            ["".join(HAN[100 * number : 100 * (number + 1)]) for number in range(200)],
            "".join(HAN[20_100:20_102]), "".join(HAN[37_000:37_002]),
        ),
        (WORDS.ljust(100_000, "x"), TAGS, "10a00", "141".ljust(5, "0")),
        ("🌧" * 50_000 + "Rain" + "🌧" * 49_996, TAGS, None, "rain"),
        ("\ufdfa" * 100_000, TAGS, None, None),
        ("Ж" * 100_000, ["Ж" * 97 + str(number) for number in range(100, 300)], None, None),
    ],
    ids=["Han", "words", "emoji", "ligatures", "Cyrillic"],
)  # fmt: skip
async def test_the_largest_description_is_stored_and_its_beginning_is_searched(
    alice: Client, description: str, tags: list[str], early: str | None, late: str | None
) -> None:
    assert len(description) == 100_000
    made = await character(alice, name="n" * 256, description=description, tags=tags)
    read = (await alice.get(f"{CHARACTERS}/{made['id']}")).json()
    assert (read["description"], read["tags"], len(read["name"])) == (description, tags, 256)
    for word, found in ((early, 1), (late, 0)):
        if word:
            page = await alice.get(CHARACTERS, params={"owner": "me", "q": word})
            assert len(page.json()["items"]) == found


async def test_the_longest_names_are_sorted_filtered_and_continued_after(alice: Client) -> None:
    names = ["𐐨" * 255 + end for end in "bac"]
    for name in names:
        await character(alice, name=name)
    query = {"owner": "me", "sort": "name", "limit": "1"}
    found = []
    for _ in names:
        page = (await alice.get(CHARACTERS, params=query)).json()
        found += [item["name"] for item in page["items"]]
        query["cursor"] = page["next_cursor"]
    assert found == sorted(names)
    assert page["next_cursor"] is None
    same = await alice.get(CHARACTERS, params={"owner": "me", "name": names[0]})
    assert [item["name"] for item in same.json()["items"]] == [names[0]]
