"""An imported card is exported without changes, whatever it contains."""

import base64
import io
import json
import zipfile
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.cards.formats.fields import character_fields
from service.cards.formats.json import write_document
from service.cards.formats.png import read_texts
from service.cards.formats.reader import read_file
from service.cards.formats.writer import CharxCard, Export, PngCard, StoredCard, as_json
from tests.conftest import signed_in
from tests.support.cards import V3, exported, import_files, in_charx, in_json, in_png
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient

PICTURE = draw_picture("PNG")
FIELDS = ("name", "description", "tags", "extensions")

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
numbers = st.integers() | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
objects = st.dictionaries(texts, values, max_size=4)
tags = st.lists(texts | st.sampled_from(["Noir", "NOIR", "x" * 60]), max_size=25)
names = st.sampled_from(["", " ", "Mira", "M" * 130, "a\nb"]) | texts
entries = st.fixed_dictionaries(
    {"keys": st.lists(texts, max_size=2), "content": texts, "extensions": objects, "enabled": st.booleans()},
    optional={"id": st.integers(0) | texts, "use_regex": st.booleans(), "unknown": values},
)
books = st.fixed_dictionaries({"extensions": objects, "entries": st.lists(entries, max_size=2)}, optional={"x": values})
v1_texts = ("personality", "scenario", "first_mes", "mes_example")
v2_texts = ("creator_notes", "system_prompt", "post_history_instructions", "creator")
defined = V3["data"].keys() | {"spec", "data"}  # their values are checked, so they are not unknown


def _with_unknown(fields: Any) -> Any:
    unknown = objects.map(lambda found: {name: value for name, value in found.items() if name not in defined})
    return st.tuples(unknown, fields).map(lambda pair: pair[0] | pair[1])


v1_fields: dict[str, Any] = {"name": names, "description": texts, **dict.fromkeys(v1_texts, texts)}
v2_fields = v1_fields | {
    **dict.fromkeys(v2_texts, texts),
    "alternate_greetings": st.lists(texts, max_size=3),
    "tags": tags,
    "character_version": texts | numbers,
    "extensions": objects,
}
v3_fields = v2_fields | {"group_only_greetings": st.lists(texts, max_size=2)}
asset = st.fixed_dictionaries({"type": texts, "uri": texts, "name": texts, "ext": texts}, optional={"x": values})
v1 = _with_unknown(st.fixed_dictionaries(v1_fields)).filter(lambda card: not isinstance(card.get("data"), dict))
v2 = _with_unknown(st.fixed_dictionaries(v2_fields, optional={"character_book": books}))
v3_extras = {"character_book": books, "assets": st.lists(asset, max_size=3), "nickname": texts}
v3 = _with_unknown(st.fixed_dictionaries(v3_fields, optional=v3_extras))
cards = st.one_of(
    v1.map(lambda data: ("v1", data, data)),
    v2.map(lambda data: ("v2", data, {"spec": "chara_card_v2", "spec_version": "2.0", "data": data})),
    v3.map(lambda data: ("v3", data, {"spec": "chara_card_v3", "spec_version": "3.0", "data": data})),
)


def is_unchanged(spec: str, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """V1 is exported as V2, which adds members."""
    return after == before if spec != "v1" else after == after | before


def texts_of(content: bytes, keyword: str) -> Any:
    return json.loads(base64.b64decode(read_texts(content).values[keyword]))["data"]


def data_in(content: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return json.loads(archive.read("card.json"))["data"]


@settings(deadline=None, max_examples=20)
@given(cards)
def test_through_files(card: tuple[str, Any, Any]) -> None:
    round_trip(card)


@pytest.mark.slow
@settings(deadline=None, max_examples=1_500, suppress_health_check=list(HealthCheck))
@given(cards)
def test_many_through_files(card: tuple[str, Any, Any]) -> None:
    round_trip(card)


def round_trip(card: tuple[str, Any, Any]) -> None:
    spec, data, document = card
    for content in (in_json(document), in_png(PICTURE, chara=document), in_charx(document)):
        found = read_file(content).card
        assert (found.spec, found.data) == (spec, data)
        fields = character_fields(found.data)
        assert fields.name
        row = {name: getattr(fields, name) for name in FIELDS} | {"extensions": write_document(fields.extensions)}
        export = Export(row, StoredCard(True, found.spec, found.spec_version, found.data, None))
        wanted = export.spec
        assert is_unchanged(spec, data, json.loads(as_json(export, wanted))["data"])
        keyword = {"v2": "chara", "v3": "ccv3"}[wanted]
        assert is_unchanged(spec, data, texts_of(in_file(PngCard, export, None, PICTURE, is_portrait=True), keyword))
        in_zip = data_in(in_file(CharxCard, export, PICTURE))
        assert in_zip == in_zip | data
        edited = Export(row | {"name": "Somebody else"}, export.stored)
        assert is_unchanged(spec, data | {"name": "Somebody else"}, json.loads(as_json(edited, wanted))["data"])


def in_file(card: Any, *given: Any, **named: Any) -> bytes:
    """The file that a writer of cards makes."""
    file = io.BytesIO()
    card(file, *given, **named).end()
    return file.getvalue()


async def test_through_the_api(app: Any) -> None:
    async with await signed_in(app, "alice") as alice:
        await through_the_api(alice, examples=1, of=10)


@pytest.mark.slow
async def test_many_through_the_api(app: Any) -> None:
    async with await signed_in(app, "alice") as alice:
        await through_the_api(alice, examples=20, of=40)


async def through_the_api(member: Client, *, examples: int, of: int) -> None:
    """Imports ``examples`` times ``of`` cards. They are drawn first: hypothesis cannot run the test's event loop."""
    drawn_cards: list[Any] = []

    @settings(deadline=None, max_examples=examples * of * 2, database=None, suppress_health_check=list(HealthCheck))
    @given(cards)
    def draw(card: Any) -> None:
        drawn_cards.append(card)

    draw()
    for start in range(0, examples * of, of):
        some = drawn_cards[start : start + of]
        items = await import_files(member, *(in_json(document) for _, _, document in some))
        for (spec, data, _), item in zip(some, items, strict=True):
            assert item["status"] == 201, item
            assert is_unchanged(spec, data, (await exported(member, item["character"]))["data"])
            path = f"/v1/characters/{item['character']['id']}"
            charx = await member.get(f"{path}/card?format=charx")
            assert data_in(charx.content) == data_in(charx.content) | data
            assert (await member.patch(path, json={"name": "Somebody else"})).status_code == 200
            after = (await exported(member, item["character"]))["data"]
            assert is_unchanged(spec, data | {"name": "Somebody else"}, after)
