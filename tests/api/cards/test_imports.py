"""POST /v1/imports: creates characters from Character Cards. Each file has its own outcome."""

import gc
import io
import json
import tracemalloc
import zlib
from typing import Any
from uuid import UUID

import httpx
import pytest
from msgspec.structs import replace

from service.cards.imports import controller, queries
from service.cards.tables import Card, CardAsset
from service.characters.tables import Character
from service.commands.collect_files import delete_unused_files
from service.database.engine import DB
from service.media import queries as pictures
from service.media import storage
from service.media.storage import Bucket
from service.media.tables import StoredFile
from service.settings import settings
from service.web.requests import MAX_PARTS
from tests.conftest import character, faults, with_key
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
from tests.support.cpu import less_than
from tests.support.pictures import chunk, draw_picture, huge_png

Client = httpx.AsyncClient

BOUNDARY = {"Content-Type": "multipart/form-data; boundary=x"}
AWAY = replace(
    settings, storage_url="s3://b", s3_endpoint_url="http://127.0.0.1:1", s3_access_key_id="a", s3_secret_access_key="b"
)
KEY = {"Idempotency-Key": "a-key"}


async def test_a_card_becomes_a_private_character(alice: Client) -> None:
    item = await imported(alice, in_json(V2))
    assert item.keys() == {"file", "status", "character", "notes"}
    assert (item["file"], item["notes"]) == ("0", [])
    read = (await alice.get(f"/v1/characters/{item['character']['id']}")).json()
    assert read | item["character"] == read
    given = {name: V2_DATA[name] for name in ("name", "description", "tags", "extensions")}
    assert {name: read[name] for name in given} == given
    assert (read["visibility"], read["template"], read["portrait"], read["version"]) == ("private", None, None, 1)
    assert (read["prompt"], read["attributes"], read["forked_from"]) == (None, {}, None)


async def test_the_picture_becomes_the_portrait(alice: Client) -> None:
    files = {ICON: draw_picture("PNG", 60, 40), "assets/other/sound.ogg": b"OggS"}
    in_zip = V3 | {"data": V3_DATA | {"assets": [ICON_ASSET]}}
    for content in (in_png(draw_picture("PNG", 60, 40), chara=V2, ccv3=V3), in_charx(in_zip, **files)):
        made = (await imported(alice, content))["character"]
        assert (made["portrait"]["width"], made["portrait"]["height"]) == (60, 40)
        portrait = await alice.get(f"/v1/characters/{made['id']}/portrait")
        assert portrait.headers["content-type"] == "image/webp"
        assert made["version"] == 1


async def test_an_invalid_picture_does_not_prevent_the_import(alice: Client) -> None:
    card = V3 | {"data": V3_DATA | {"assets": [ICON_ASSET]}}
    pictures = (b"\x89PNG\r\n\x1a\n" + bytes(50), huge_png(50_000, 50_000), b"<svg/>")
    for item in await import_files(alice, *(in_charx(card, **{ICON: picture}) for picture in pictures)):
        assert item["character"]["portrait"] is None
        assert item["notes"][0].startswith("The picture was not used as the portrait: ")
    assert await CardAsset.select(CardAsset.path).output(as_list=True) == [ICON] * 3


async def test_a_picture_that_is_too_large_for_a_portrait(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_UPLOAD", 50)
    assert "larger than" in (await imported(alice, in_png(draw_picture("PNG"), chara=V2)))["notes"][0]


async def test_each_file_has_its_own_outcome(alice: Client) -> None:
    broken = in_json(V2 | {"data": V2_DATA | {"creator_notes": "\0"}})
    items = await import_files(alice, in_json(V1), b"nothing", in_json(V3), broken, in_json(V2))
    assert [item["status"] for item in items] == [201, 415, 201, 422, 201]
    assert [item["file"] for item in items] == ["0", "1", "2", "3", "4"]
    assert items[3].keys() == {"file", "status", "problem", "notes"}
    problem = items[3]["problem"]
    assert (problem["type"], problem["status"], problem["instance"]) == ("/problems/validation", 422, "/v1/imports")
    assert [fault["pointer"] for fault in problem["errors"]] == ["/data/creator_notes"]
    assert await Character.count() == await Card.count() == 3


async def test_a_failed_import_leaves_nothing(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await DB.run_ddl("ALTER TABLE cards ADD CONSTRAINT no_v1 CHECK (spec <> 'v1')")
    try:
        items = await alice.post("/v1/imports", files=[("file", ("a", in_json(V2))), ("file", ("b", in_json(V1)))])
        assert items.status_code == 500
        assert await Character.count() == await Card.count() == 1
    finally:
        await DB.run_ddl("ALTER TABLE cards DROP CONSTRAINT no_v1")


async def test_folders_are_removed_from_file_names(alice: Client) -> None:
    for sent, expected in (
        ("../../etc/passwd", "passwd"),
        ("C:\\cards\\mira.json", "mira.json"),
        ("x" * 300, "x" * 255),
    ):
        answer = await alice.post("/v1/imports", files=[("file", (sent, in_json(V1)))])
        assert [item["file"] for item in answer.json()["items"]] == [expected]


async def test_a_form_that_is_not_valid(alice: Client) -> None:
    file = ("file", ("a", in_json(V1)))
    other = ("other", ("b", b"{}"))
    for files, at in (
        ([other], {"/file", "/other"}),
        ([file, other], {"/other"}),
        ([file] * (controller.MAX_FILES + 1), {"/file"}),
    ):
        answer = await alice.post("/v1/imports", files=files)
        assert (answer.status_code, faults(answer).keys()) == (422, at)
    assert (await alice.post("/v1/imports", files=[file] * (MAX_PARTS + 1))).status_code == 400
    text = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--x--\r\n'
    answer = await alice.post("/v1/imports", content=text, headers=BOUNDARY)
    assert (answer.status_code, faults(answer).keys()) == (422, {"/file"})
    assert await Character.count() == 0


async def test_a_body_that_is_not_a_form(alice: Client) -> None:
    assert (await alice.post("/v1/imports", json=V2)).status_code == 415
    assert (await alice.post("/v1/imports")).status_code == 415
    assert (await alice.post("/v1/imports", content=b"--x", headers=BOUNDARY)).status_code in (400, 422)
    undecodable = b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n\xff\r\n--x--\r\n'
    assert (await alice.post("/v1/imports", content=undecodable, headers=BOUNDARY)).status_code == 422


async def test_the_body_is_bounded(alice: Client) -> None:
    content = bytes(controller.MAX_BODY)
    answer = await alice.post("/v1/imports", files=[("file", ("a", content))])
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")


async def test_importing_needs_write_access(app: Any, alice: Client, stranger: Client) -> None:
    files = [("file", ("a", in_json(V1)))]
    assert (await stranger.post("/v1/imports", files=files)).status_code == 401
    reader = await with_key(app, alice, "characters:read")
    assert (await reader.post("/v1/imports", files=files)).status_code == 403
    writer = await with_key(app, alice, "characters:write")
    assert (await writer.post("/v1/imports", files=files)).status_code == 200


async def test_a_repeated_import_is_replayed(alice: Client) -> None:
    def form(boundary: str, *contents: bytes) -> dict[str, Any]:
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{number}"\r\n\r\n'.encode()
            + content
            for number, content in enumerate(contents)
        ]
        content = b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])
        return {"content": content, "headers": KEY | {"Content-Type": f"multipart/form-data; boundary={boundary}"}}

    first = await alice.post("/v1/imports", **form("one", in_json(V1), b"no card"))
    assert [item["status"] for item in first.json()["items"]] == [201, 415]
    again = await alice.post("/v1/imports", **form("another", in_json(V1), b"no card"))
    assert (again.content, again.headers["idempotency-replayed"]) == (first.content, "true")
    other = await alice.post("/v1/imports", **form("one", in_json(V2), b"no card"))
    assert (other.status_code, faults(other).keys()) == (422, {"Idempotency-Key"})
    assert await Character.count() == 1


async def test_an_import_can_be_repeated_after_the_storage_failed(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [("file", ("a", in_json(V1))), ("file", ("b", in_charx(V3, **{"a.bin": b"1"})))]
    with monkeypatch.context() as patch:
        patch.setattr(storage, "RETRIES", 0)
        patch.setattr(pictures, "STORAGE", Bucket(AWAY))
        items = (await alice.post("/v1/imports", files=files)).json()["items"]
        assert [item["status"] for item in items] == [201, 503]
        assert (await alice.post("/v1/imports", files=files, headers=KEY)).status_code == 503
        assert await Character.count() == 1
    again = await alice.post("/v1/imports", files=files, headers=KEY)
    assert [item["status"] for item in again.json()["items"]] == [201, 201]


async def test_a_dry_run_leaves_nothing(alice: Client) -> None:
    contents = (in_png(draw_picture("PNG"), chara=V2), b"no card", in_charx(V3, **{"a.bin": b"1"}))
    dry = await import_files(alice, *contents, params={"dry_run": "true"})
    assert [item["status"] for item in dry] == [201, 415, 201]
    assert dry[0]["character"]["name"] == "Mira Halloran"
    counts = [await table.count() for table in (Character, Card, CardAsset, StoredFile)]
    assert counts == [0, 0, 0, 0]


async def test_normalised_values_are_noted(alice: Client) -> None:
    data = V3_DATA | {"name": "", "tags": ["A", "a"], "assets": [ICON_ASSET | {"uri": "https://example.org/a.png"}]}
    item = await imported(alice, in_json({"spec": "chara_card_v4", "data": data, "chat": 1}))
    assert item["notes"] == [
        "The card's specification is unknown; it was read as V3.",
        "Members beside 'data' were ignored: chat.",
        "Assets with external addresses were not fetched: 1.",
        "The name is empty; the character is called Unnamed, and the card is unchanged.",
        "1 of 2 tags are repeated or not valid; only the card keeps them.",
    ]
    assert (await exported(alice, item["character"]))["data"] == data


async def test_files_of_a_card_are_kept_with_it(alice: Client) -> None:
    made = (await imported(alice, in_charx(V3, **{"assets/x.bin": b"123"})))["character"]
    await DB.run_ddl("UPDATE files SET stored_at = stored_at - interval '2 days'")
    assert await delete_unused_files() == 0
    content = (await alice.get(f"/v1/characters/{made['id']}/card?format=charx")).content
    assert (await imported(alice, content))["status"] == 201
    await Character.delete().where(Character.id == UUID(made["id"]))
    assert (await Card.count(), await CardAsset.count()) == (1, 1)


async def test_files_of_deleted_cards_are_collected(alice: Client) -> None:
    made = (await imported(alice, in_charx(V3, **{"assets/x.bin": b"123"})))["character"]
    assert (await alice.delete(f"/v1/characters/{made['id']}")).status_code == 204
    assert (await alice.delete(f"/v1/trash/{made['id']}")).status_code == 204
    await DB.run_ddl("UPDATE files SET stored_at = stored_at - interval '2 days'")
    assert await delete_unused_files() == 1


async def test_an_export_of_the_account_has_the_cards(alice: Client, charlie: Client) -> None:
    made = (await imported(alice, in_charx(V3, **{"assets/x.bin": b"123"})))["character"]
    await imported(charlie, in_json(V1))
    await character(alice)
    lines = [json.loads(line) for line in io.BytesIO((await alice.get("/v1/users/me/export")).content)]
    (card,) = [line for line in lines if line["kind"] == "card"]
    assert (card["character"], card["file"], card["spec"], card["data"]) == (made["id"], "0", "v3", V3_DATA)
    assert card["assets"] == ["assets/x.bin"]


async def test_the_pointers_of_faults_are_bounded(alice: Client) -> None:
    """Each repeats all names that lead to its fault. The errors of all files are in memory together."""
    faulty = ",".join(f'"a{number}":1e999' for number in range(100))
    text = f'{{"name":"M","description":"d","{"K" * 7_900_000}":{{{faulty}}}}}'.encode()
    picture = draw_picture("PNG")
    content = picture[:33] + chunk(b"zTXt", b"chara\0\0" + zlib.compress(text)) + picture[33:]
    assert len(content) < 100_000
    tracemalloc.start()
    try:
        with less_than(3):
            answer = await alice.post("/v1/imports", files=[("file", (str(number), content)) for number in range(3)])
        assert tracemalloc.get_traced_memory()[1] < 150_000_000
    finally:
        tracemalloc.stop()
    assert [item["status"] for item in answer.json()["items"]] == [422] * 3
    assert len(answer.content) < 10_000


async def test_a_refused_file_is_freed_at_once(alice: Client) -> None:
    """Not with the next collection of garbage: refused files would fill the memory until then."""
    large = b"\xff\xd8\xff" + bytes(5_000_000)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(8):
            (item,) = await import_files(alice, large)
            assert item["status"] == 422
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < 3 * len(large), held  # others may run meanwhile
