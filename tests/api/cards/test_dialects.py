"""Files of other programs: every container with every dialect, and what is no character."""

import json
import re
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service.cards.formats import png, yaml
from service.cards.formats.backyard import read_byaf
from service.cards.formats.dialects import DIALECTS as PARSERS
from service.cards.formats.exif import read_user_comment
from service.cards.formats.json import MAX_BYTES
from service.cards.formats.reader import CONTAINERS as READERS
from service.cards.formats.reader import MAX_NUMBERS, read_file
from service.errors import ServiceError, TooLarge, Unprocessable
from tests.support.card_files import AGNAI, CONTAINERS, DIALECTS, PICTURE, in_byaf, in_webp, in_yaml
from tests.support.cards import V1, V2, V2_DATA, V3, V3_DATA, in_charx, in_json, in_png
from tests.support.cpu import is_quick
from tests.support.pictures import chunk

GUIDE = (Path(__file__).parents[3] / "docs/guide.md").read_text()
CONVERTED = ("Agnai", "Pygmalion", "text-generation-webui")


def refused(content: bytes, kind: type[ServiceError] = Unprocessable) -> str:
    with pytest.raises(kind) as raised:
        read_file(content)
    return raised.value.detail or raised.value.errors[0].detail


@pytest.mark.parametrize("container", CONTAINERS)
def test_each_dialect_in_each_container(container: str) -> None:
    for dialect, document in DIALECTS.items():
        found = read_file(CONTAINERS[container](document))
        assert found.card.data["name"] == "Mira Halloran", dialect
        assert found.card.data["first_mes"] == "You again."
        assert found.card.data["description"].lower().count("inspector") == 1
        assert found.card.spec == ("v2" if dialect in CONVERTED else dialect.lower())
        notes = [f"The card of {dialect} was converted to V2."] if dialect in CONVERTED else []
        assert found.notes == notes, (container, dialect)
        assert (found.picture is not None) == (container.split()[0] in ("PNG", "APNG", "WebP", "JPEG"))


def test_the_guide_has_every_container_and_dialect() -> None:
    table = GUIDE.partition("| Container | ")[2].partition("\n\n")[0]
    header, _, *rows = table.split("\n")
    assert header.removesuffix(" |").split(" | ") == [*DIALECTS]
    outcomes = dict.fromkeys(DIALECTS, "unchanged") | dict.fromkeys(CONVERTED, "converted") | {"V1": "as V2"}
    expected = [f"| {container} | {' | '.join(outcomes.values())} |" for container in CONTAINERS]
    assert rows == expected
    assert {name for each in READERS for name in each.name.split(", ")} == {name.split()[0] for name in CONTAINERS} | {
        "BYAF"
    }
    assert {*PARSERS} == {"V1", "V2 and V3", *CONVERTED, "Backyard"}


def test_agnai_is_converted() -> None:
    data = read_file(in_json(AGNAI)).card.data
    assert data["description"] == "mood: dry, patient\njob: inspector"
    assert (data["scenario"], data["mes_example"]) == (AGNAI["scenario"], AGNAI["sampleChat"])
    assert (data["alternate_greetings"], data["tags"]) == (AGNAI["alternateGreetings"], ["noir"])
    assert (
        data["character_book"]["entries"][0] | {"keys": ["harbour"], "content": "Cold."}
        == (data["character_book"]["entries"][0])
    )
    kept = data["extensions"]["agnai"]
    assert (kept["voice"], kept["persona"]) == (AGNAI["voice"], AGNAI["persona"])
    text = AGNAI | {"persona": {"kind": "text", "attributes": {"text": ["An inspector."]}}}
    assert read_file(in_json(text)).card.data["description"] == "An inspector."
    for broken in (None, 1, [], {"attributes": 3}):
        card = read_file(in_json(AGNAI | {"persona": broken, "characterBook": broken, "extensions": broken})).card
        assert card.data["description"] == ""


def test_members_that_no_field_takes_are_kept() -> None:
    for dialect, member in (("Pygmalion", "avatar"), ("text-generation-webui", "your_name")):
        kept = read_file(in_json(DIALECTS[dialect])).card.data["extensions"][dialect.lower()]
        assert kept == {member: DIALECTS[dialect][member]}


def test_backyard() -> None:
    found = read_file(in_byaf())
    data = found.card.data
    assert (data["name"], data["description"]) == ("Mira Halloran", "{{char}} is an inspector.")
    assert (data["first_mes"], data["alternate_greetings"]) == ("You again, {{user}}.", ["Close the door."])
    assert (data["scenario"], data["system_prompt"]) == ("A harbour town.", "Be brief.")
    assert data["mes_example"] == "{{user}}: Who did it?"
    assert data["character_book"]["entries"][0]["keys"] == ["harbour", "sea"]
    assert data["extensions"]["backyard"]["scenarios"][0]["narrative"] == "A harbour town."
    assert (found.picture, found.icon) == (PICTURE, "characters/1/images/a.png")
    manifest = {"characters": ["characters/1/character.json", "b"], "scenarios": []}
    assert "not read: 1" in read_file(in_byaf(**{"manifest.json": manifest})).notes[1]
    assert "no character" in refused(in_byaf(**{"manifest.json": {"characters": []}}))
    assert "not in the zip" in refused(in_byaf(**{"manifest.json": {"characters": ["x"]}}))


@pytest.mark.parametrize(
    ("document", "seems"),
    [
        ({"spec": "lorebook_v3", "data": {"entries": [], "name": "Town"}}, "a lorebook"),
        ({"name": "Town", "description": "", "entries": {}}, "a lorebook"),
        ({"kind": "memory", "name": "Town", "entries": []}, "a lorebook"),
        ({"name": "Warm", "temperature": 1.1, "top_p": 0.9}, "a preset of a text generator"),
        ({"user_name": "Ada", "chat_metadata": {}}, "a chat"),
        ({"data": {}}, "an empty card"),
        ({"spec": "chara_card_v2", "data": {}}, "an empty card"),
        ({"data": {"color": 1}}, "no field"),
        ({"name": "Mira"}, "no field"),
        ({"color": 1}, "no field"),
        ({}, "no field"),
    ],
)
def test_what_is_no_character_is_named(document: Any, seems: str) -> None:
    for content in (in_json(document), in_charx(document), in_png(PICTURE, chara=document)):
        assert seems in refused(content)


def test_a_chat_and_a_list_are_named() -> None:
    assert "a chat" in refused(b'{"user_name": "Ada"}\r\n{"mes": "Hi."}\r\n')
    assert "a chat" in refused(b'{"user_name": "Ada"}\n{"mes": "Hi."}\n')
    assert "a list" in refused(in_json([V2]))


def test_wrong_types_that_can_be_understood_are_noted() -> None:
    wrong = {"name": 42, "description": ["a", "b"], "tags": "elf, wizard,", "extensions": [], "creator": 1.5}
    card = read_file(in_json({"spec": "chara_card_v2", "data": V2_DATA | wrong | {"alternate_greetings": "Hi."}})).card
    mended = {"name": "42", "description": "a\nb", "tags": ["elf", "wizard"], "extensions": {}, "creator": "1.5"}
    assert card.data == V2_DATA | mended | {"alternate_greetings": ["Hi."]}
    assert len(card.notes) == 6
    assert read_file(in_json(V1 | {"tags": {}, "extensions": ""})).card.data == V1 | {"tags": [], "extensions": {}}


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_compressed_texts_are_bounded(kind: bytes) -> None:
    head = b"chara\0\0" if kind == b"zTXt" else b"chara\0\1\0\0\0"
    bomb = zlib.compress(bytes(png.MAX_INFLATED + 1))
    content = PICTURE[:33] + chunk(kind, head + bomb) + PICTURE[33:]
    assert "more bytes" in refused(content)
    half = zlib.compress(bytes(png.MAX_INFLATED // 2 + 1))
    twice = chunk(kind, head + half) + chunk(kind, head.replace(b"chara", b"ccv3") + half)
    assert "more bytes" in refused(PICTURE[:33] + twice + PICTURE[33:])
    for incomplete in (half[:-5], half[:-5] + b"\xff" * 5):
        thrice = chunk(kind, head + incomplete) * 3
        assert "more bytes" in refused(PICTURE[:33] + thrice + PICTURE[33:])
    damaged = read_file(
        in_png(PICTURE[:33] + chunk(kind, head.replace(b"chara", b"ccv3") + b"x") + PICTURE[33:], chara=V2)
    )
    assert "could not be decompressed" in damaged.notes[0]


@pytest.mark.parametrize("more", [1, 2])
def test_a_long_text_that_is_not_compressed_takes_nothing_from_the_bound(more: int) -> None:
    plain = chunk(b"iTXt", b"chara-ext-asset_:x\0\0\0\0\0" + bytes(png.MAX_INFLATED + more))
    bomb = chunk(b"zTXt", b"chara\0\0" + zlib.compress(bytes(png.MAX_INFLATED + 1)))
    assert "more bytes" in refused(PICTURE[:33] + plain + bomb + PICTURE[33:])


def test_values_that_a_reader_makes_are_bounded() -> None:
    """A text of tags, and the keywords of an entry of a lorebook."""
    many = "a," * 3_900_000
    tags = in_json({"name": "Mira", "description": "d", "tags": many})
    book = json.dumps({"name": "Mira", "loreItems": [{"key": many, "value": "Cold."}]}).encode()
    for content in (tags, in_byaf(**{"characters/1/character.json": book})):
        assert is_quick(partial(refused, content), 1)
        assert "values" in refused(content)
    entries = [{"key": "a," * 1_000, "value": ""}] * 300  # 300,000 together
    book = json.dumps({"name": "Mira", "loreItems": entries}).encode()
    assert "values" in refused(in_byaf(**{"characters/1/character.json": book}))


def test_a_scenario_that_is_named_many_times_is_read_once() -> None:
    scenario = {"messages": [], "text": "x" * (MAX_BYTES // 2)}
    manifest = {"characters": ["c.json"], "scenarios": ["s.json"] * 100}
    files = {"manifest.json": in_json(manifest), "c.json": in_json({"name": "Mira"}), "s.json": in_json(scenario)}
    assert len(read_byaf(files)["scenarios"]) == 1


def test_a_card_of_too_many_numbers_is_refused() -> None:
    numbers = b",".join([b"32"] * (MAX_NUMBERS // 3 + 1))
    with pytest.raises(TooLarge):
        read_file(PICTURE[:33] + chunk(b"tEXt", b"chara\0" + numbers) + PICTURE[33:])


@pytest.mark.parametrize("comment", [b"ASCII\0\0\0", b"ASCII\0\0\0a camera", b"ASCII\0\0\0\0\0\0"])
def test_a_charx_behind_a_picture_is_read_whatever_the_comment_of_the_picture(comment: bytes) -> None:
    number, entries = (1).to_bytes(2, "little"), (0x9286).to_bytes(2, "little") + (7).to_bytes(2, "little")
    entries += len(comment).to_bytes(4, "little") + (26).to_bytes(4, "little")
    block = b"II*\0" + (8).to_bytes(4, "little") + number + entries + bytes(4) + comment
    webp = b"RIFF\0\0\0\0WEBPEXIF" + len(block).to_bytes(4, "little") + block
    assert read_file(webp + in_charx(V3)).card.spec == "v3"


def test_a_text_may_be_plain_json() -> None:
    content = PICTURE[:33] + chunk(b"iTXt", b"chara\0\0\0\0\0" + in_json(V2)) + PICTURE[33:]
    assert read_file(content).card.data == V2_DATA


def test_a_comment_may_be_utf_16() -> None:
    text = json.dumps(V1)
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        packed = b"UNICODE\0" + text.encode("utf-16-le" if order == "<" else "utf-16-be")
        number = (1).to_bytes(2, "little" if order == "<" else "big")
        byte_order = "little" if order == "<" else "big"
        entry = (0x9286).to_bytes(2, byte_order) + (7).to_bytes(2, byte_order)
        entry += len(packed).to_bytes(4, byte_order) + (26).to_bytes(4, byte_order)
        block = mark + (8).to_bytes(4, byte_order) + number + entry + bytes(4) + packed
        webp = b"RIFF\0\0\0\0WEBPEXIF" + len(block).to_bytes(4, "little") + block
        assert read_user_comment(webp) == text.encode()
        assert read_file(webp).card.data == V1


def test_yaml_is_typed_as_json() -> None:
    text = b"name: no\ncontext: |\n  An inspector.\n  Tired.\ngreeting: '12'\nflag: true\nsize: 1.5\nat: 12:30\n"
    card = read_file(text).card
    assert (card.data["name"], card.data["description"]) == ("no", "An inspector.\nTired.\n")
    kept = card.data["extensions"]["text-generation-webui"]
    assert kept == {"flag": True, "size": 1.5, "at": "12:30"}
    assert read_file(b"name: 42\ncontext: x\n").card.data["name"] == "42"


@pytest.mark.parametrize(
    "text",
    [
        b"name: Mira\ncontext: [1\n",
        b"name: Mira\n? [a]\n: b\n",
        b"name: a\n---\nname: b\n",
        b"name: " + b"[" * 100_000 + b"\n",
        b"name: \xff\n",
        b"name: Mira\ncontext: x\na: " + b"[" * 65 + b"]" * 65,
        b"name: a\n...\n" + b"".join(b"%%TAG !%05d! x\n" % number for number in range(60_000)),
        b"name: a\n...\n%TAG !a! " + b"x" * 500_000 + b"\n---\n" + b"- !a!y\n" * 70_000,
        b"name: a\r...\r%TAG !a! " + b"x" * 500_000 + b"\n---\n" + b"- !a!y\n" * 70_000,
    ],
)
def test_yaml_that_is_refused(text: bytes) -> None:
    assert is_quick(lambda: refused(text), 0.2)


def test_a_text_in_yaml_may_have_lines_with_percent_signs() -> None:
    lines = "".join(f"  %TAG {number}\n" for number in range(100))
    text = f'name: Mira\ncontext: |\n{lines}greeting: "a\n%b"\n'
    assert read_file(text.encode()).card.data["description"].count("%") == 100


def test_yaml_aliases_are_refused() -> None:
    assert "aliases" in refused(b"name: &a Mira\ncontext: Dry.\nother: *a\n")


def test_yaml_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml, "MAX_BYTES", 1_000)
    assert "YAML" in refused(in_yaml(V1 | {"a": "x" * 1_000}), TooLarge)
    monkeypatch.setattr(yaml, "MAX_VALUES", 20)
    assert "values" in refused(in_yaml(V1 | {"a": [1] * 20}))


def test_500_assets_with_metadata_and_sanitised_names() -> None:
    paths = [f"assets/emotion/image/{number}.png" for number in range(500)]
    files = dict.fromkeys(paths, b"1") | {f"x_meta/{number}.json": b"{}" for number in range(500)}
    uris = [*paths, "assets/what?.png"]
    assets = [{"type": "emotion", "uri": f"embeded://{path}", "name": "a", "ext": "png"} for path in uris]
    document = V3 | {"data": V3_DATA | {"assets": assets}}
    found = read_file(in_charx(document, **files, **{"assets/what_.png": b"2"}))
    assert len(found.files) == 1_001
    assert found.notes == []


def test_numbers_beyond_a_byte_are_refused() -> None:
    content = in_webp(V1).replace(b"123,34,110", b"123,34,310")
    assert re.search("base64|JSON", refused(content))
