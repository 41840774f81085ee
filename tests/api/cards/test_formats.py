"""Reading cards from files: formats, tolerated faults and limits."""

import base64
import io
import json
import stat
import tracemalloc
import zipfile
from typing import Any

import pytest

from service.cards.formats import charx, png
from service.cards.formats import json as card_json
from service.cards.formats.dialects import parse_card
from service.cards.formats.fields import character_fields
from service.cards.formats.json import read_document
from service.cards.formats.reader import read_file
from service.errors import ServiceError, TooLarge, Unprocessable, UnsupportedMediaType
from tests.support.cards import ICON, ICON_ASSET, V1, V2, V2_DATA, V3, V3_DATA, in_charx, in_json, in_png, with_texts
from tests.support.cpu import is_quick
from tests.support.pictures import apng, chunk, draw_picture

PICTURE = draw_picture("PNG")


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        for path, content in entries:
            archive.writestr(path, content)
    return target.getvalue()


CARD = ("card.json", in_json(V3))


def refused(content: bytes, kind: type[ServiceError] = Unprocessable) -> ServiceError:
    with pytest.raises(kind) as raised:
        read_file(content)
    return raised.value


def pointers(document: Any) -> dict[str | None, str]:
    return {fault.pointer: fault.detail for fault in refused(in_json(document)).errors}


@pytest.mark.parametrize(("card", "spec", "data"), [(V1, "v1", V1), (V2, "v2", V2_DATA), (V3, "v3", V3_DATA)])
def test_each_specification_in_each_container(card: Any, spec: str, data: Any) -> None:
    for content in (in_json(card), in_png(PICTURE, chara=card), in_png(PICTURE, ccv3=card), in_charx(card)):
        found = read_file(content)
        assert (found.card.spec, found.card.data, found.notes) == (spec, data, [])


def test_json_may_begin_with_a_byte_order_mark_and_blanks() -> None:
    assert read_file(b"\xef\xbb\xbf" + in_json(V2)).card.data == V2_DATA
    assert read_file(b"\r\n  " + in_json(V2)).card.data == V2_DATA


@pytest.mark.parametrize("content", [b"", b"hello", b"Call Ines.", b"<svg/>", b"GIF89a" + bytes(50)])
def test_other_files_are_refused(content: bytes) -> None:
    refused(content, UnsupportedMediaType)


@pytest.mark.parametrize("content", [b"{", b"[]", PICTURE, draw_picture("JPEG"), draw_picture("WEBP")])
def test_containers_without_a_card_are_refused(content: bytes) -> None:
    refused(content)


def test_other_json_is_refused() -> None:
    for document in ({}, {"name": "Mira"}, {"spec": "chara_card_v2"}, {"data": 1}, {"data": []}):
        refused(in_json(document))


def test_ccv3_is_preferred_in_any_order() -> None:
    other = V2 | {"data": V2_DATA | {"name": "Old"}}
    for content in (in_png(PICTURE, chara=other, ccv3=V3), in_png(PICTURE, ccv3=V3, chara=other)):
        assert read_file(content).card.data["name"] == "Mira Halloran"
    head, rest = PICTURE[:33], PICTURE[33:]
    text = b"ccv3\0" + base64.b64encode(in_json(V3))
    assert read_file(head + chunk(b"tEXt", text) + rest).card.data == V3_DATA


def test_chara_is_read_if_ccv3_is_not_valid() -> None:
    for broken in (b"ccv3\0not base64", b"ccv3\0" + base64.b64encode(b"{")):
        content = in_png(PICTURE, chara=V2)
        found = read_file(content[:33] + chunk(b"tEXt", broken) + content[33:])
        assert found.card.data == V2_DATA
        assert found.notes == ["The PNG's chunk 'ccv3' is not valid; 'chara' was read instead."]


def test_base64_may_have_line_breaks_and_no_padding() -> None:
    packed = base64.encodebytes(in_json(V2)).rstrip(b"=\n")
    assert read_file(with_texts(PICTURE, {"chara": packed})).card.data == V2_DATA


def test_the_first_of_two_chunks_with_the_same_keyword_is_read() -> None:
    content = in_png(PICTURE, chara=V2)
    other = b"chara\0" + base64.b64encode(in_json(V2 | {"data": V2_DATA | {"name": "Otto"}}))
    found = read_file(content[:33] + chunk(b"tEXt", other) + content[33:])
    assert found.card.data["name"] == "Otto"
    assert found.notes == ["The PNG has several chunks 'chara'; only the first was read."]


def test_a_damaged_png_is_read_with_notes() -> None:
    content = bytearray(in_png(PICTURE, chara=V2))
    content[29] ^= 1  # of the checksum of the first chunk
    found = read_file(bytes(content))
    assert found.card.data == V2_DATA
    assert found.notes == ["1 chunks of the PNG have a wrong checksum; they were read anyway."]
    cut = read_file(in_png(PICTURE, chara=V2)[:-12])
    assert (cut.card.data, cut.notes) == (V2_DATA, ["The PNG is truncated."])


def test_the_picture_loses_only_its_texts() -> None:
    assert png.without_metadata(in_png(PICTURE, chara=V2)) == PICTURE
    animated = apng()
    assert png.without_metadata(in_png(animated, ccv3=V3)) == animated


def test_files_in_a_png() -> None:
    packed = {f"chara-ext-asset_:{path}": base64.b64encode(b"sound") for path in ("0", "a/b.ogg", "../up", "/root")}
    found = read_file(with_texts(in_png(PICTURE, ccv3=V3), packed | {"chara-ext-asset_:x": b"?"}))
    assert found.files == {"0": b"sound", "a/b.ogg": b"sound"}
    assert len(found.notes) == 3


def test_the_icon_becomes_the_picture() -> None:
    other, files = draw_picture("WEBP"), {"assets/a.webp": draw_picture("WEBP"), ICON: PICTURE}
    assets = [
        {"type": "emotion", "uri": "embeded://assets/a.webp", "name": "happy", "ext": "webp"},
        {"type": "icon", "uri": "embeded://assets/a.webp", "name": "second", "ext": "webp"},
        dict(ICON_ASSET),
    ]
    found = read_file(in_charx(V3 | {"data": V3_DATA | {"assets": assets}}, **files))
    assert (found.picture, found.icon, found.files, found.notes) == (PICTURE, ICON, files, [])
    assets[-1]["name"] = "third"
    found = read_file(in_charx(V3 | {"data": V3_DATA | {"assets": assets}}, **files))
    assert (found.picture, found.icon) == (other, "assets/a.webp")


def test_the_address_of_an_icon() -> None:
    def with_icon(uri: str) -> Any:
        return V3 | {"data": V3_DATA | {"assets": [{"type": "icon", "uri": uri, "name": "main", "ext": "png"}]}}

    spelt = read_file(in_charx(with_icon(f"embedded://{ICON}"), **{ICON: PICTURE}))
    assert spelt.picture == PICTURE
    assert "embeded://" in spelt.notes[0]
    data = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
    assert read_file(in_json(with_icon(data))).picture == PICTURE
    away = read_file(in_json(with_icon("https://example.org/a.png")))
    assert (away.picture, away.notes) == (None, ["Assets with external addresses were not fetched: 1."])
    missing = read_file(in_charx(with_icon("embeded://nowhere.png")))
    assert (missing.picture, missing.notes) == (None, ["Assets whose files are missing: 1."])


def test_assets_that_are_not_valid_are_ignored() -> None:
    for assets in (None, 1, {}, [1, None, {}, {"uri": 3}, {"type": "icon", "uri": "data:,"}, {"type": [], "uri": ""}]):
        document = V3 | {"data": V3_DATA | {"assets": assets}}
        assert read_file(in_json(document)).card.data["assets"] == assets


def test_a_picture_followed_by_a_zip() -> None:
    for picture in (PICTURE, draw_picture("JPEG")):
        found = read_file(picture + in_charx(V3, **{"a.bin": b"1"}))
        assert (found.card.data, found.picture, found.files) == (V3_DATA, picture, {"a.bin": b"1"})


def test_unknown_specifications_and_members_are_noted() -> None:
    newer = parse_card({"spec": "chara_card_v3", "spec_version": "3.7", "data": V3_DATA, "x": 1})
    assert (newer.spec, newer.spec_version) == ("v3", "3.7")
    assert newer.notes == ["Members beside 'data' were ignored: x."]
    unknown = parse_card({"spec": "chara_card_v9", "spec_version": 9, "data": V3_DATA})
    assert (unknown.spec, unknown.spec_version, len(unknown.notes)) == ("v3", "9", 1)
    without = parse_card({"spec": "chara_card_v3", "data": V2_DATA})
    assert without.notes == ["'group_only_greetings' is missing; it is exported as an empty list."]
    flat = parse_card({"spec": "chara_card_v2", "name": "Mira", "first_mes": "Hi."})
    assert (flat.spec, len(flat.notes)) == ("v1", 2)


def test_fields_of_a_wrong_type_are_refused() -> None:
    data = {"name": {}, "description": [1], "tags": 1, "extensions": [1]}
    assert pointers({"spec": "chara_card_v2", "data": data}).keys() == {f"/data/{name}" for name in data}
    assert pointers({"name": None, "first_mes": "", "tags": 0}).keys() == {"/tags"}


def test_what_a_character_cannot_hold_is_left_to_the_card() -> None:
    tags = ["Noir", "noir", "NOIR", "", "a\nb", 3, *map(str, range(199))]
    fields = character_fields({"name": "a\n" + "b" * 254, "description": "c" * 100_000, "tags": tags})
    assert (fields.name, fields.description) == ("a " + "b" * 254, "c" * 100_000)
    assert fields.tags == ["Noir", *map(str, range(199))]
    assert fields.notes == [
        "Control characters in the character's name were replaced by spaces; the card keeps them.",
        "5 of 205 tags are repeated or not valid; only the card keeps them.",
    ]
    for empty in ("", " \t", "\n", None):
        assert character_fields({"name": empty}).name == "Unnamed"
    assert character_fields(V2_DATA).notes == []


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ({"a": "\0"}, "/a"),
        ({"a": [1, "\ud800"]}, "/a/1"),
        ({"a": {"b/c~": "\udc00"}}, "/a/b~1c~0"),
        ({"a": {"\0": 1}}, "/a"),
        ({"a": 10**309}, "/a"),
        ({"a": [-(10**500)]}, "/a/0"),
        ({"a": 1e999}, "/a"),
    ],
)
def test_values_that_cannot_be_stored_are_refused(value: Any, at: str) -> None:
    text = json.dumps(V1 | value).replace("Infinity", "1e999").encode()
    assert [fault.pointer for fault in refused(text).errors] == [at]


@pytest.mark.parametrize("text", [b'{"a": NaN}', b'{"a": -Infinity}', b'{"a": "\xff"}', b'{"a": 1,}', b"{'a': 1}"])
def test_invalid_json_is_refused(text: bytes) -> None:
    assert refused(text).detail == "The card is not valid JSON (UTF-8)."


@pytest.mark.parametrize(
    "number", ["1e30", "12345678901234567890123", "1e-320", "0.1", "1.7976931348623157e308", "-0.0"]
)
def test_numbers_are_unchanged(number: str) -> None:
    value = read_document(f'{{"a": {number}}}'.encode())
    written = card_json.write_document(value)
    assert read_document(written.encode()) == value
    assert card_json.equals_stored(value, written)


def test_depth_is_bounded() -> None:
    def nested(depth: int) -> bytes:
        return b'{"name": "", "first_mes": "", "a":' + b"[" * depth + b"]" * depth + b"}"

    assert read_file(nested(63))
    assert "nested deeper" in refused(nested(64)).errors[0].detail
    refused(nested(1_000_000))


def test_size_and_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_json, "MAX_VALUES", 100)
    many = V1 | {"a": [0] * 100}
    assert "values" in refused(in_json(many)).detail
    assert read_file(in_json(V1 | {"a": "[,{" * 200 + '\\"' * 99}))
    monkeypatch.setattr(card_json, "MAX_BYTES", 1_000)
    refused(in_json(V1 | {"a": "x" * 1_000}), TooLarge)
    refused(in_png(PICTURE, chara=V1 | {"a": "x" * 1_000}), TooLarge)


def test_values_are_counted_before_decoding() -> None:
    text = b'{"name": "", "a": [' + b"[]," * 2_500_000 + b"0]}"
    tracemalloc.start()
    try:
        assert "values" in refused(text).detail
        assert tracemalloc.get_traced_memory()[1] < 60 * 1024**2
    finally:
        tracemalloc.stop()


def test_chunks_are_bounded() -> None:
    many = png.SIGNATURE + chunk(b"teST", b"") * png.MAX_CHUNKS + chunk(b"IEND", b"")
    assert "chunks" in refused(many).detail
    assert read_file(in_png(png.SIGNATURE + chunk(b"teST", b"") * (png.MAX_CHUNKS - 2) + chunk(b"IEND", b""), chara=V2))
    long = png.SIGNATURE + (2**32 - 1).to_bytes(4) + b"tEXt"
    assert "no card" in refused(long).detail


def test_files_in_a_png_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cards.formats.reader.MAX_ENTRIES", 3)
    packed = {f"chara-ext-asset_:{number}": b"" for number in range(4)}
    assert "files" in refused(with_texts(in_png(PICTURE, chara=V2), packed)).detail


@pytest.mark.parametrize(
    "path", ["../a", "a/../../b", "/etc/passwd", "a\\..\\b", "C:/a", "a//b", "./a", "a\nb", "x" * 501, "a/../card.json"]
)
def test_unsafe_paths_are_refused(path: str) -> None:
    assert "path" in refused(zipped(CARD, (path, b""))).detail


def test_a_path_with_nul_is_refused() -> None:
    assert "path" in refused(zipped(CARD, ("aXb", b"")).replace(b"aXb", b"a\0b")).detail


def test_zips_that_are_refused() -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "symbolic" in refused(zipped(CARD, (link, b"/etc/passwd"))).detail
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = zipped(CARD, ("a", b"1"), ("a", b"2"))
    assert "two entries" in refused(twice).detail
    assert "card.json" in refused(zipped(("a/card.json", b"{}"))).detail
    assert "card.json" in refused(zipped()).detail
    for packing in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        assert "compression" in refused(zipped(CARD, packing=packing)).detail
    encrypted = bytearray(zipped(CARD))
    encrypted[encrypted.rindex(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refused(bytes(encrypted)).detail
    assert read_file(zipped(CARD, ("assets/", b""), ("assets/a", b"1"))).files == {"assets/a": b"1"}


def test_entries_are_bounded() -> None:
    many = [(str(number), b"") for number in range(charx.MAX_ENTRIES)]
    assert "entries" in refused(zipped(CARD, *many)).detail
    assert len(read_file(zipped(CARD, *many[1:])).files) == charx.MAX_ENTRIES - 1


def test_a_zip_bomb_costs_little() -> None:
    bomb = zipped(CARD, ("assets/bomb", bytes(150 * 1024**2)))
    assert is_quick(lambda: refused(bomb), 1)
    tracemalloc.start()
    try:
        assert "more bytes" in refused(bomb).detail
        assert tracemalloc.get_traced_memory()[1] < 80 * 1024**2
    finally:
        tracemalloc.stop()


def test_sizes_in_headers_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charx, "MAX_UNPACKED", 10_000)
    parts = [(str(number), bytes(3_000)) for number in range(4)]
    assert "more bytes" in refused(zipped(CARD, *parts, packing=zipfile.ZIP_STORED)).detail
    lying = bytearray(zipped(CARD, ("a", bytes(2_000_000))))
    for name, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = lying.rindex(name) + offset
        lying[at : at + 4] = (10).to_bytes(4, "little")
    refused(bytes(lying))


def test_the_ratio_is_bounded() -> None:
    assert "more bytes" in refused(zipped(CARD, ("a", bytes(4 * 1024**2)))).detail
    assert read_file(zipped(CARD, ("a", bytes(charx.RATIO_FREE))))
