"""Exporting characters as cards, and editing their cards."""

import base64
import gc
import io
import json
import threading
import zipfile
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.cards.formats import json as card_json
from service.cards.formats.png import read_texts, without_metadata
from service.cards.queries import card_text
from service.characters.tables import Character
from service.media.queries import content_name
from service.media.storage import STORAGE
from tests.conftest import character, faults, public
from tests.support.cards import (
    ICON,
    ICON_ASSET,
    V1,
    V2,
    V2_DATA,
    V3,
    V3_DATA,
    exported,
    import_files,
    imported,
    in_charx,
    in_json,
    in_png,
)
from tests.support.pictures import apng, chunk, draw_picture, give_portrait, opened

Client = httpx.AsyncClient

REQUIRED_V2 = {
    "name", "description", "personality", "scenario", "first_mes", "mes_example", "creator_notes", "system_prompt",
    "post_history_instructions", "alternate_greetings", "tags", "creator", "character_version", "extensions",
}  # fmt: skip


async def card(member: Client, made: Any, **query: str) -> httpx.Response:
    return await member.get(f"/v1/characters/{made['id']}/card", params=query)


def texts(content: bytes) -> dict[str, Any]:
    """The cards in a PNG, by their keywords."""
    found = read_texts(content)
    assert found.notes == []
    return {name: json.loads(base64.b64decode(text)) for name, text in found.values.items()}


def entries(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


async def test_a_character_that_was_not_imported_is_exported(alice: Client) -> None:
    mira = await character(alice, description="Dry.", tags=["Noir"], extensions={"a": 1}, prompt="secret {name}")
    document = await exported(alice, mira)
    assert (document["spec"], document["spec_version"]) == ("chara_card_v3", "3.0")
    data = document["data"]
    assert data.keys() >= REQUIRED_V2 | {"group_only_greetings"}
    own = {"name": "Mira", "description": "Dry.", "tags": ["Noir"], "extensions": {"a": 1}, "creator": "alice"}
    assert {name: data[name] for name in own} == own
    assert (data["group_only_greetings"], data["character_version"]) == ([], "1")
    assert data["assets"] == [{"type": "icon", "uri": "ccdefault:", "name": "main", "ext": "png"}]
    assert 1_700_000_000 < data["creation_date"] <= data["modification_date"] < 10_000_000_000
    assert "secret" not in json.dumps(document)
    assert (await exported(alice, mira, spec="v2"))["spec"] == "chara_card_v2"


async def test_an_exported_character_is_imported_unchanged(alice: Client) -> None:
    mira = await character(alice, name="Unnamed", description="Dry.", tags=["Noir"], extensions={"a": 1e30})
    await give_portrait(mira)
    own = ("name", "description", "tags", "extensions")
    read = (await alice.get(f"/v1/characters/{mira['id']}")).json()
    for format in ("json", "png", "charx"):
        again = (await imported(alice, (await card(alice, mira, format=format)).content))["character"]
        back = (await alice.get(f"/v1/characters/{again['id']}")).json()
        assert {name: back[name] for name in own} == {name: read[name] for name in own}
        assert (back["portrait"] is None) == (format == "json")


async def test_the_placeholder_does_not_become_a_portrait(alice: Client) -> None:
    mira = await character(alice)
    content = (await card(alice, mira, format="png")).content
    assert opened(content).size == (400, 600)
    again = (await imported(alice, content))["character"]
    assert again["portrait"] is None


async def test_a_png_has_both_specifications_and_shows_the_portrait(alice: Client) -> None:
    made = (await imported(alice, in_png(draw_picture("PNG", 60, 40, "#00ff00"), chara=V2)))["character"]
    answer = await card(alice, made, format="png")
    assert answer.headers["content-type"] == "image/png"
    picture = opened(answer.content)
    assert (picture.format, picture.size) == ("PNG", (60, 40))
    found = texts(answer.content)
    assert (found["chara"]["spec"], found["chara"]["data"]) == ("chara_card_v2", V2_DATA)
    assert (found["ccv3"]["spec"], found["ccv3"]["data"]) == ("chara_card_v3", V2_DATA | {"group_only_greetings": []})
    for spec, keyword in (("v2", "chara"), ("v3", "ccv3")):
        assert texts((await card(alice, made, format="png", spec=spec)).content).keys() == {keyword}


async def test_a_charx_carries_its_files_and_the_portrait(alice: Client) -> None:
    icon = {"type": "icon", "uri": "embeded://assets/icon/me.jpeg", "name": "main", "ext": "jpeg"}
    content = in_charx(
        V3 | {"data": V3_DATA | {"assets": [icon]}},
        **{"assets/icon/me.jpeg": draw_picture("JPEG", 60, 40), "assets/emotion/a.bin": b"\0\1", "notes.txt": b"x"},
    )
    made = (await imported(alice, content))["character"]
    answer = await card(alice, made, format="charx")
    assert answer.headers["content-type"] == "application/zip"
    found = entries(answer.content)
    assert json.loads(found.pop("card.json"))["data"] == V3_DATA | {"assets": [icon]}
    portrait = opened(found.pop("assets/icon/me.jpeg"))
    assert (portrait.format, portrait.size) == ("JPEG", (60, 40))
    assert found == {"assets/emotion/a.bin": b"\0\1", "notes.txt": b"x"}
    png_texts = read_texts((await card(alice, made, format="png")).content).values
    assert base64.b64decode(png_texts["chara-ext-asset_:notes.txt"]) == b"x"
    mira = await character(alice)
    without = entries((await card(alice, mira, format="charx")).content)
    assert without.keys() == {"card.json"}
    assert json.loads(without["card.json"])["data"]["assets"][0]["uri"] == "ccdefault:"
    await give_portrait(mira)
    with_portrait = entries((await card(alice, mira, format="charx")).content)
    assert json.loads(with_portrait["card.json"])["data"]["assets"][0]["uri"] == f"embeded://{ICON}"
    assert opened(with_portrait[ICON]).format == "PNG"


async def test_an_imported_png_keeps_its_pixels_and_animation(alice: Client) -> None:
    picture = apng()
    private = picture[:33] + chunk(b"eXIf", b"MM\0*place") + picture[33:]
    in_zip = in_charx(V3 | {"data": V3_DATA | {"assets": [ICON_ASSET]}}, **{ICON: private})
    for content in (in_png(private, chara=V2), in_zip):
        made = (await imported(alice, content))["character"]
        for copied in (made, (await alice.post(f"/v1/characters/{made['id']}/copies", json={})).json()):
            assert without_metadata((await card(alice, copied, format="png")).content) == picture
        if content is in_zip:
            assert entries((await card(alice, made, format="charx")).content)[ICON] == picture
        await give_portrait(made)
        assert without_metadata((await card(alice, made, format="png")).content) != picture


async def test_a_card_is_exported_in_the_specification_of_its_import(alice: Client) -> None:
    one, two, three = [(await imported(alice, in_json(each)))["character"] for each in (V1, V2, V3)]
    specs = {}
    for name, made in (("one", one), ("two", two), ("three", three)):
        specs[name] = (await exported(alice, made))["spec"]
    assert specs == {"one": "chara_card_v2", "two": "chara_card_v2", "three": "chara_card_v3"}
    from_one = (await exported(alice, one))["data"]
    assert from_one | V1 == from_one
    assert from_one.keys() == REQUIRED_V2
    assert (await exported(alice, two, spec="v3"))["data"] == V2_DATA | {"group_only_greetings": []}
    assert (await exported(alice, three, spec="v2"))["data"] == V3_DATA
    newer = (await imported(alice, in_json(V3 | {"spec_version": "3.9"})))["character"]
    assert (await exported(alice, newer))["spec_version"] == "3.9"
    assert (await exported(alice, newer, spec="v2"))["spec_version"] == "2.0"


async def test_a_missing_group_only_greetings_is_added(alice: Client) -> None:
    made = (await imported(alice, in_json(V3 | {"data": V2_DATA})))["character"]
    assert (await exported(alice, made))["data"] == V2_DATA | {"group_only_greetings": []}


@pytest.mark.parametrize("source", [V1, V2, V3])
async def test_an_edit_changes_only_its_field(alice: Client, source: Any) -> None:
    made = (await imported(alice, in_json(source)))["character"]
    path = f"/v1/characters/{made['id']}"
    before = expected = (await exported(alice, made))["data"]
    edits = {"name": "Otto", "description": "", "tags": ["DETECTIVE"], "extensions": {"other": [1.5, "🌧"]}}
    for field, value in edits.items():
        assert (await alice.patch(path, json={field: value})).status_code == 200
        expected = expected | {field: value}
        assert (await exported(alice, made))["data"] == expected
    assert (await alice.post(f"{path}/revisions/1/restorations")).status_code == 201
    assert (await exported(alice, made))["data"] == before


async def test_the_largest_values_are_kept_whole(alice: Client) -> None:
    tags = [f"{number} ".ljust(100, "x") for number in range(200)]
    big = {"name": "n" * 256, "description": "ж" * 100_000, "tags": [*tags, tags[0].upper(), ""]}
    made = (await imported(alice, in_json(V2 | {"data": V2_DATA | big})))["character"]
    read = (await alice.get(f"/v1/characters/{made['id']}")).json()
    assert (read["name"], read["description"], read["tags"]) == (big["name"], big["description"], tags)
    assert (await exported(alice, made))["data"] == V2_DATA | big
    edits = {"name": "Otto", "description": big["description"][1:], "tags": [*tags[1:], "B"]}
    for field, value in edits.items():
        await alice.patch(f"/v1/characters/{made['id']}", json={field: value})
        big[field] = [*value, ""] if field == "tags" else value
        assert (await exported(alice, made))["data"] == V2_DATA | big


async def test_larger_values_are_refused_by_name(alice: Client) -> None:
    data = {
        "name": "n" * 257, "description": "d" * 100_001, "tags": [*map(str, range(200)), "x" * 101],
        "extensions": {"a": "b" * 262_144},
    }  # fmt: skip
    expected = {
        "/name": "Must be at most 256 characters.",
        "/description": "Must be at most 100000 characters.",
        "/tags": "Must have at most 200 items.",
        "/tags/200": "Must be at most 100 characters.",
        "/extensions": "Must be at most 256 KiB of JSON.",
    }
    for document, at in ((V2 | {"data": data}, "/data"), ({"first_mes": "Hi."} | data, "")):
        [item] = await import_files(alice, in_json(document))
        found = {fault["pointer"]: fault["detail"] for fault in item["problem"]["errors"]}
        assert (item["status"], found) == (422, {at + pointer: detail for pointer, detail in expected.items()})


async def test_what_earlier_imports_cut_is_not_an_edit(alice: Client) -> None:
    whole = {"name": "n" * 130, "description": "d" * 10_001, "tags": ["x" * 51, *map(str, range(21))]}
    made = (await imported(alice, in_json(V2 | {"data": V2_DATA | whole})))["character"]
    await Character.update(
        {Character.name: "n" * 120, Character.description: "d" * 10_000, Character.tags: [*map(str, range(20))]}
    ).where(Character.id == UUID(made["id"]))
    assert (await exported(alice, made))["data"] == V2_DATA | whole


async def test_members_that_only_a_card_has_are_edited(alice: Client) -> None:
    made = (await imported(alice, in_json(V3)))["character"]
    path = f"/v1/characters/{made['id']}/card"
    edits = {"personality": "warm", "alternate_greetings": [], "character_book": {"entries": [], "x": 1}}
    answer = await alice.put(path, json=edits | {"nickname": None})
    assert answer.status_code == 200
    expected = {name: value for name, value in (V3_DATA | edits).items() if name != "nickname"}
    assert answer.json()["data"] == expected == (await exported(alice, made))["data"]
    again = await alice.put(path, json=edits)
    assert again.headers["etag"] == answer.headers["etag"]
    await alice.put(path, json={"character_book": {"entries": [], "x": True}})
    assert (await exported(alice, made))["data"]["character_book"]["x"] is True


async def test_an_edited_card_is_written_in_a_thread(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def write(data: Any) -> str:
        threads.append(threading.current_thread())
        return card_text(data)

    monkeypatch.setattr("service.cards.queries.card_text", write)
    mira = await character(alice)
    for text in ("One.", "Two."):
        assert (await alice.put(f"/v1/characters/{mira['id']}/card", json={"first_mes": text})).status_code == 200
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_a_character_that_was_not_imported_has_a_card(alice: Client) -> None:
    mira = await character(alice, name="Unnamed")
    path = f"/v1/characters/{mira['id']}"
    answer = await alice.put(f"{path}/card", json={"first_mes": "Hi.", "creator": "someone", "nickname": "M"})
    assert answer.status_code == 200
    data = (await exported(alice, mira))["data"]
    assert (data["name"], data["first_mes"], data["creator"], data["nickname"]) == ("Unnamed", "Hi.", "someone", "M")
    assert data["character_version"] == "2"
    await alice.patch(path, json={"description": "New."})
    assert (await exported(alice, mira))["data"]["description"] == "New."


async def test_an_edited_card_is_a_new_version(alice: Client) -> None:
    made = (await imported(alice, in_json(V2)))["character"]
    path = f"/v1/characters/{made['id']}"
    before = await card(alice, made)
    assert before.headers["etag"] == f'"{made["id"]}-1"'
    assert (await alice.get(f"{path}/card", headers={"If-None-Match": before.headers["etag"]})).status_code == 304
    answer = await alice.put(f"{path}/card", json={"scenario": ""}, headers={"If-Match": before.headers["etag"]})
    assert answer.headers["etag"] == f'"{made["id"]}-2"' == (await alice.get(path)).headers["etag"]
    stale = await alice.put(f"{path}/card", json={"scenario": "x"}, headers={"If-Match": before.headers["etag"]})
    assert stale.status_code == 412
    revisions = (await alice.get(f"{path}/revisions")).json()["items"]
    assert [(each["number"], each["changed"]) for each in revisions] == [(2, []), (1, [])]
    assert (await alice.get(f"{path}/revisions/2")).json()["created_at"] > revisions[1]["created_at"]
    changes = (await alice.get("/v1/changes")).json()["items"]
    assert [(each["id"], each["version"]) for each in changes] == [(made["id"], 2)]


async def test_a_dry_run_of_an_edit_leaves_nothing(alice: Client) -> None:
    mira = await character(alice)
    before = (await card(alice, mira)).content
    dry = await alice.put(f"/v1/characters/{mira['id']}/card?dry_run=true", json={"scenario": "x"})
    assert (dry.status_code, dry.json()["data"]["scenario"]) == (200, "x")
    assert "etag" not in dry.headers
    assert (await card(alice, mira)).content == before


async def test_an_edit_is_checked(alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    mira = await public(alice)
    path = f"/v1/characters/{mira['id']}/card"
    wrong = {"name": "Otto", "personality": 1, "alternate_greetings": [1], "character_book": [], "scenario": "\0"}
    answer = await alice.put(path, json=wrong)
    expected = {"/name", "/personality", "/alternate_greetings/0", "/character_book", "/scenario"}
    assert (answer.status_code, faults(answer).keys()) == (422, expected)
    assert (await charlie.put(path, json={})).status_code == 403
    monkeypatch.setattr("service.cards.queries.MAX_BYTES", 100)
    assert (await alice.put(path, json={"scenario": "x" * 100})).status_code == 413
    assert card_json.MAX_BYTES > 100


async def test_a_copy_has_the_card(alice: Client, charlie: Client) -> None:
    made = (await imported(alice, in_charx(V3, **{"assets/x.bin": b"123"})))["character"]
    await alice.patch(f"/v1/characters/{made['id']}", json={"visibility": "public", "name": "Otto"})
    copy = await charlie.post(f"/v1/characters/{made['id']}/copies", json={})
    assert copy.status_code == 201
    assert (await exported(charlie, copy.json()))["data"] == V3_DATA | {"name": "Otto"}
    await charlie.put(f"/v1/characters/{copy.json()['id']}/card", json={"scenario": "mine"})
    assert (await exported(alice, made))["data"] == V3_DATA | {"name": "Otto"}
    await alice.delete(f"/v1/characters/{made['id']}")
    await alice.delete(f"/v1/trash/{made['id']}")
    found = entries((await card(charlie, copy.json(), format="charx")).content)
    assert found["assets/x.bin"] == b"123"
    plain = await alice.post(f"/v1/characters/{(await character(alice))['id']}/copies", json={})
    assert plain.status_code == 201


@pytest.mark.parametrize(
    ("name", "plain", "whole"),
    [
        ("Mira Halloran", "Mira_Halloran", "Mira%20Halloran"),
        ("Ö/b", "b", "%C3%96_b"),
        ("Жанна", "character", "%D0%96%D0%B0%D0%BD%D0%BD%D0%B0"),
        ('a"; filename="evil.exe', "a_filename_evil.exe", "a%22%3B%20filename%3D%22evil.exe"),
        ("../..\\up", "up", ".._.._up"),
    ],
)
async def test_the_file_has_the_name_of_the_character(alice: Client, name: str, plain: str, whole: str) -> None:
    answer = await card(alice, await character(alice, name=name))
    expected = f"attachment; filename=\"{plain}.json\"; filename*=UTF-8''{whole}.json"
    assert answer.headers["content-disposition"] == expected


async def test_formats_that_do_not_exist_are_refused(alice: Client) -> None:
    mira = await character(alice)
    answer = await card(alice, mira, format="charx", spec="v2")
    assert (answer.status_code, faults(answer).keys()) == (400, {"spec"})
    for query in ({"format": "gif"}, {"spec": "v1"}, {"format": ""}):
        assert (await card(alice, mira, **query)).status_code == 400


async def test_an_edit_of_a_tag_keeps_those_that_only_the_card_has(alice: Client) -> None:
    tags = [*map(str, range(30)), "a\nb", ""]
    made = (await imported(alice, in_json(V2 | {"data": V2_DATA | {"tags": tags}})))["character"]
    held = made["tags"]
    edited = ["noir", *held[1:]]
    assert (await alice.patch(f"/v1/characters/{made['id']}", json={"tags": edited})).status_code == 200
    assert (await exported(alice, made))["data"]["tags"] == ["noir", *tags[1:]]


@pytest.mark.parametrize("kind", ["charx", "png"])
async def test_a_card_whose_file_is_missing_fails_alone(alice: Client, kind: str) -> None:
    made = (await imported(alice, in_charx(V3, **{"assets/x.bin": b"123"})))["character"]
    await STORAGE.delete([await content_name(io.BytesIO(b"123"))])
    assert (await alice.get(f"/v1/characters/{made['id']}/card?format={kind}")).status_code == 404
    gc.collect()  # nothing complains that its file was closed
    assert (await alice.get(f"/v1/characters/{(await character(alice))['id']}/card?format={kind}")).status_code == 200
