"""What a search finds in romanised form: docs/api.md says the same."""

import httpx
import pytest

from tests.conftest import character

ROMANISED = [
    ("Dörte", "dorte", True),
    ("Dörte", "Doerte", False),
    ("Москва", "moskva", True),
    ("Тарас", "taras", True),
    ("Юлия", "Yuliya", False),
    ("Щука", "shchuka", False),
    ("Ελένη", "eleni", True),
    ("東京", "Tokyo", False),
    ("Søren", "soren", True),
    ("Straße", "strasse", True),
    ("Łukasz", "lukasz", True),
    ("Æsa", "aesa", True),
]


@pytest.mark.parametrize(("name", "query", "is_found"), ROMANISED)
async def test_a_romanised_name_is_found_if_each_letter_has_one_latin_letter(
    alice: httpx.AsyncClient, name: str, query: str, is_found: bool
) -> None:
    await character(alice, name=name)
    answer = await alice.get("/v1/characters", params={"q": query})
    assert bool(answer.json()["items"]) is is_found
