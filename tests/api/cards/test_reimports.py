"""Files that are imported again, and files that replace the card of a character."""

import asyncio
from typing import Any

import httpx
import pytest

from service.cards.tables import CardAsset
from tests.conftest import character, faults, public
from tests.support.cards import (
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
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient
IMPORTS = "/v1/imports"
UPDATE = {"params": {"on_duplicate": "update"}}
SKIP = {"params": {"on_duplicate": "skip"}}


async def count(member: Client) -> int:
    return len((await member.get("/v1/characters", params={"owner": "me"})).json()["items"])


async def used_bytes(member: Client) -> Any:
    return (await member.get("/v1/users/me/usage")).json()["stored_bytes"]["used"]


async def replace(member: Client, of: Any, content: bytes, **request: Any) -> httpx.Response:
    return await member.put(f"/v1/characters/{of['id']}/card", files={"file": ("new.json", content)}, **request)


async def test_the_same_file_is_recognised_and_kept_by_default(alice: Client, charlie: Client) -> None:
    first = await imported(alice, in_json(V2))
    assert "duplicate_of" not in first
    assert "duplicate_of" not in await imported(charlie, in_json(V2))
    assert "duplicate_of" not in await imported(alice, in_json(V3))
    again, twice = await import_files(alice, in_json(V2), in_json(V2))
    assert (again["status"], again["duplicate_of"]) == (201, first["character"]["id"])
    assert (twice["status"], twice["duplicate_of"]) == (201, again["character"]["id"])
    assert await count(alice) == 4


async def test_a_duplicate_is_skipped(alice: Client, charlie: Client) -> None:
    await imported(charlie, in_json(V2))
    first, second = await import_files(alice, in_json(V2), in_json(V2), **SKIP)
    assert (first["status"], second["status"]) == (201, 200)
    assert second["duplicate_of"] == second["character"]["id"] == first["character"]["id"]
    await alice.patch(f"/v1/characters/{first['character']['id']}", json={"name": "Otto"})
    [third] = await import_files(alice, in_json(V2), **SKIP)
    assert (third["character"]["name"], third["character"]["version"]) == ("Otto", 2)
    await alice.delete(f"/v1/characters/{first['character']['id']}")
    [fourth] = await import_files(alice, in_json(V2), **SKIP)
    assert (fourth["status"], fourth.get("duplicate_of")) == (201, None)
    assert await count(alice) == 1


async def test_a_duplicate_is_updated_as_one_revision(alice: Client) -> None:
    content = in_charx(V3, **{"assets/x.bin": b"123"})
    first = (await imported(alice, content))["character"]
    path, used = f"/v1/characters/{first['id']}", await used_bytes(alice)
    [same] = await import_files(alice, content, **UPDATE)
    assert (same["status"], same["character"]["version"], same["duplicate_of"]) == (200, 1, first["id"])
    await alice.patch(path, json={"name": "Otto", "tags": ["new"], "style": "anime"})
    await alice.put(f"{path}/card", json={"first_mes": "Changed."})
    [item] = await import_files(alice, content, **UPDATE)
    assert (item["status"], item["character"]["version"], item["character"]["style"]) == (200, 4, "anime")
    assert (await exported(alice, first))["data"] == V3_DATA
    assert (await used_bytes(alice), await count(alice), await CardAsset.count()) == (used, 1, 1)


@pytest.mark.parametrize("choice", ["keep", "skip", "update"])
async def test_a_dry_run_recognises_a_duplicate_and_leaves_it(alice: Client, choice: str) -> None:
    first = (await imported(alice, in_json(V2)))["character"]
    await alice.patch(f"/v1/characters/{first['id']}", json={"name": "Otto"})
    [item] = await import_files(alice, in_json(V2), params={"on_duplicate": choice, "dry_run": "true"})
    assert item["duplicate_of"] == first["id"]
    assert (await alice.get(f"/v1/characters/{first['id']}")).json()["version"] == 2
    assert await count(alice) == 1


async def test_simultaneous_imports_of_a_file_make_one_character(alice: Client) -> None:
    results = await asyncio.gather(*(import_files(alice, in_json(V2), **SKIP) for _ in range(4)))
    assert sorted(item["status"] for (item,) in results) == [200, 200, 200, 201]
    assert await count(alice) == 1


async def test_another_choice_is_refused(alice: Client) -> None:
    answer = await alice.post(IMPORTS, files={"file": ("a", in_json(V2))}, params={"on_duplicate": "replace"})
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (400, "on_duplicate")


async def test_a_file_replaces_the_card_as_one_revision(alice: Client) -> None:
    made = (await imported(alice, in_charx(V3, **{"assets/x.bin": b"123"})))["character"]
    path = f"/v1/characters/{made['id']}"
    await alice.patch(path, json={"style": "anime", "attributes": {"a": 1}})
    content = in_png(draw_picture("PNG"), chara=V2 | {"data": V2_DATA | {"name": "Otto", "tags": ["new"]}})
    answer = await replace(alice, made, content)
    read = (await alice.get(path)).json()
    assert (answer.status_code, answer.headers["etag"]) == (200, f'"{made["id"]}-3"')
    assert answer.json()["data"] == V2_DATA | {"name": "Otto", "tags": ["new"]}
    assert (read["name"], read["tags"], read["version"], read["style"]) == ("Otto", ["new"], 3, "anime")
    assert (read["attributes"], read["portrait"] is None, await CardAsset.count()) == ({"a": 1}, False, 0)
    assert (await replace(alice, made, content)).headers["etag"] == answer.headers["etag"]
    assert (await alice.delete(f"{path}/portrait")).status_code == 204
    assert (await replace(alice, made, in_json(V1))).status_code == 200
    [again] = await import_files(alice, in_json(V1), **SKIP)
    assert again["duplicate_of"] == made["id"]
    assert (await alice.get(path)).json()["portrait"] is None


async def test_a_file_that_changes_the_card_alone_makes_the_next_version(alice: Client) -> None:
    made = (await imported(alice, in_json(V2)))["character"]
    content = in_json(V2 | {"data": V2_DATA | {"first_mes": "Changed."}})
    assert (await replace(alice, made, content)).headers["etag"] == f'"{made["id"]}-2"'


async def test_a_file_replaces_the_card_of_a_character_that_was_not_imported(alice: Client) -> None:
    made = await character(alice)
    assert (await replace(alice, made, in_json(V2))).json()["data"] == V2_DATA
    assert (await alice.get(f"/v1/characters/{made['id']}")).json()["version"] == 2


async def test_what_a_replacement_frees_is_not_used(alice: Client) -> None:
    made = (await imported(alice, in_json(V2)))["character"]
    used = await used_bytes(alice)
    assert (await replace(alice, made, in_charx(V3, **{"assets/x.bin": b"1" * 1_000}))).status_code == 200
    assert await used_bytes(alice) > used + 900
    assert (await replace(alice, made, in_json(V2))).status_code == 200
    assert await used_bytes(alice) == used
    await replace(alice, made, in_charx(V3, **{"assets/x.bin": b"1" * 1_000}))
    await alice.delete(f"/v1/characters/{made['id']}")
    await alice.delete(f"/v1/trash/{made['id']}")
    assert await used_bytes(alice) == 0


async def test_a_replacement_is_refused(alice: Client, charlie: Client, stranger: Client) -> None:
    made = (await imported(alice, in_json(V2)))["character"]
    assert (await replace(charlie, made, in_json(V3))).status_code == 404
    assert (await replace(stranger, made, in_json(V3))).status_code == 401
    assert (await replace(charlie, await public(alice), in_json(V3))).status_code == 403
    stale = {"If-Match": f'"{made["id"]}-9"'}
    assert (await replace(alice, made, in_json(V3), headers=stale)).status_code == 412
    assert (await replace(alice, made, b"no card")).status_code == 415
    big = await replace(alice, made, in_json(V2 | {"data": V2_DATA | {"name": "n" * 257}}))
    assert (big.status_code, faults(big)) == (422, {"/data/name": "Must be at most 256 characters."})
    two = [("file", ("a", in_json(V2))), ("file", ("b", in_json(V2)))]
    answer = await alice.put(f"/v1/characters/{made['id']}/card", files=two)
    assert (answer.status_code, faults(answer)) == (422, {"/file": "Must be one file."})
    dry = await replace(alice, made, in_json(V3), params={"dry_run": "true"})
    assert (dry.status_code, dry.json()["data"]["name"]) == (200, V3_DATA["name"])
    assert (await exported(alice, made))["data"] == V2_DATA


async def test_json_is_bounded_also_where_a_file_may_be_larger(alice: Client) -> None:
    path = f"/v1/characters/{(await character(alice))['id']}/card"
    assert (await alice.put(path, json={"scenario": "x" * (1024 * 1024)})).status_code == 413
    assert (await alice.put(path, json={"scenario": "x" * (1024 * 1024 - 100)})).status_code == 200
