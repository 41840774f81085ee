"""Quotas: what a user stores, and what is refused beyond."""

import asyncio
from io import BytesIO
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from service.characters import store, thinning
from service.characters.tables import Character
from service.commands.purge import purge_everything
from service.database.engine import DB
from service.media.queries import BLOCK, content_name, file_name
from service.media.schemas import SIZES
from service.media.storage import STORAGE
from service.settings import settings
from service.templates.versions import queries as versions
from service.users.tables import User
from tests.conftest import FIGHTER, character, public, template, with_key
from tests.support.cards import V3, imported, in_charx, in_json
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient

PATH = "/v1/users/me/usage"
MOST, MOST_BYTES = settings.quota_characters, settings.quota_stored_bytes


async def used(member: Client) -> tuple[int, int]:
    usage = (await member.get(PATH)).json()
    return usage["characters"]["used"], usage["stored_bytes"]["used"]


async def use(**numbers: int) -> None:
    """Sets what Alice, the only user with characters, seems to use."""
    for name, number in numbers.items():
        await DB._run_in_pool(f"UPDATE user_usage SET {name} = $1", [number])


def assert_refused(answer: httpx.Response, detail: str) -> None:
    assert (answer.status_code, answer.json()["type"]) == (403, "/problems/quota-exceeded")
    assert detail in answer.json()["detail"]


async def put_portrait(member: Client, of: Any, picture: bytes) -> httpx.Response:
    return await member.put(
        f"/v1/characters/{of['id']}/portrait", content=picture, headers={"Content-Type": "image/png"}
    )


async def test_a_new_user_uses_nothing(alice: Client) -> None:
    assert (await alice.get(PATH)).json() == {
        "characters": {"used": 0, "limit": 10_000},
        "stored_bytes": {"used": 0, "limit": 1024**3},
        "versions_per_template": 200,
        "relationships_per_character": 5_000,
        "revisions_per_character": 500,
    }


async def test_a_key_that_reads_characters_may_read_it(app: Any, alice: Client, stranger: Client) -> None:
    await character(alice)
    async with await with_key(app, alice, "characters:read") as program:
        assert await used(program) == (1, 0)
    async with await with_key(app, alice, "templates:read") as program:
        assert (await program.get(PATH)).status_code == 403
    assert (await stranger.get(PATH)).status_code == 401


async def test_characters_count_until_they_are_purged(alice: Client, charlie: Client) -> None:
    mira = await public(alice)
    await alice.post(f"/v1/characters/{mira['id']}/copies", json={})
    await charlie.post(f"/v1/characters/{mira['id']}/copies", json={})
    operations = [{"action": "create", "body": {"name": name}} for name in ("a", "b", "")]
    await alice.post("/v1/characters/bulk", json={"operations": operations})
    assert (await used(alice), await used(charlie)) == ((4, 0), (1, 0))
    await alice.delete(f"/v1/characters/{mira['id']}")
    assert await used(alice) == (4, 0), "the trash counts"
    await alice.delete(f"/v1/trash/{mira['id']}")
    assert await used(alice) == (3, 0), "what is left for the feed of changes does not count"
    await alice.post("/v1/characters?dry_run=true", json={"name": "Dry"})
    assert await used(alice) == (3, 0)
    await DB.run_ddl("UPDATE characters SET deleted_at = now() - interval '31 days'")
    await purge_everything()
    assert (await used(alice), await used(charlie)) == ((0, 0), (0, 0))


async def stored(picture: bytes) -> int:
    """The bytes of a picture that was uploaded, in all its sizes."""
    name = await content_name(BytesIO(picture))
    return sum([max(BLOCK, len(await STORAGE.get(file_name(name, size)))) for size in SIZES])


async def test_bytes_of_portraits_count_as_long_as_they_are_kept(alice: Client) -> None:
    mira = await character(alice)
    first, second = draw_picture(color="#ff0000"), draw_picture(width=400, height=300, color="#0000ff")
    await put_portrait(alice, mira, first)
    red = await stored(first)
    assert await used(alice) == (1, red)
    await put_portrait(alice, mira, second)
    blue = await stored(second)
    assert await used(alice) == (1, red + blue), "a revision keeps the first"
    await alice.post(f"/v1/characters/{mira['id']}/copies", json={})
    assert await used(alice) == (2, red + 2 * blue), "twice, as deleting one frees the bytes of one"
    await alice.delete(f"/v1/characters/{mira['id']}/portrait")
    await alice.patch(f"/v1/characters/{mira['id']}", json={"name": "Changed"})
    assert await used(alice) == (2, red + 2 * blue)
    await alice.delete(f"/v1/characters/{mira['id']}")
    await alice.delete(f"/v1/trash/{mira['id']}")
    assert await used(alice) == (1, blue)


async def test_a_portrait_of_thinned_revisions_is_free(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (store, thinning):
        monkeypatch.setattr(module, "settings", replace(settings, revisions_kept=3))
    mira = await character(alice)
    pictures = [draw_picture(width=300 + 50 * number) for number in range(3)]
    for picture in pictures:
        await put_portrait(alice, mira, picture)
    assert await used(alice) == (1, await stored(pictures[1]) + await stored(pictures[2])), (
        "no revision keeps the first"
    )
    await alice.delete(f"/v1/characters/{mira['id']}")
    await alice.delete(f"/v1/trash/{mira['id']}")
    assert await used(alice) == (0, 0)


async def test_bytes_of_cards_count(alice: Client) -> None:
    item = await imported(alice, in_charx(V3, **{"assets/other/notes.txt": b"n" * 5_000}))
    path = f"/v1/characters/{item['character']['id']}"
    (card,) = await DB._run_in_pool("SELECT octet_length(data::text) AS size FROM card_documents")
    before = card["size"] + 5_000
    assert await used(alice) == (1, before)
    await alice.put(f"{path}/card", json={"nickname": "N" * 100})
    (card,) = await DB._run_in_pool("SELECT octet_length(data::text) AS size FROM card_documents")
    assert await used(alice) == (1, card["size"] + 5_000)
    assert card["size"] + 5_000 > before
    await alice.post(f"{path}/copies", json={})
    assert await used(alice) == (2, 2 * (card["size"] + 5_000))
    await alice.delete(path)
    await alice.delete(f"/v1/trash/{item['character']['id']}")
    assert await used(alice) == (1, card["size"] + 5_000)


async def test_of_many_creates_at_once_as_many_pass_as_are_left(alice: Client) -> None:
    await character(alice)
    await use(characters=MOST - 1)
    answers = await asyncio.gather(*(alice.post("/v1/characters", json={"name": "Mira"}) for _ in range(30)))
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 29
    assert await Character.count() == 2
    assert await used(alice) == (MOST, 0)


async def test_each_way_to_create_a_character_is_refused_beyond_the_quota(alice: Client, charlie: Client) -> None:
    mira = await character(alice)
    await use(characters=MOST)
    detail = "A user may have 10000 characters, including those in the trash."
    assert_refused(await alice.post("/v1/characters", json={"name": "Mira"}), detail)
    assert_refused(await alice.post("/v1/characters?dry_run=true", json={"name": "Mira"}), detail)
    assert_refused(await alice.post(f"/v1/characters/{mira['id']}/copies", json={}), detail)
    operations = [
        {"action": "create", "body": {"name": "Otto"}},
        {"action": "update", "id": mira["id"], "body": {"name": "Changed"}},
    ]
    items = (await alice.post("/v1/characters/bulk", json={"operations": operations})).json()["items"]
    assert [item["status"] for item in items] == [403, 200]
    assert items[0]["problem"]["type"] == "/problems/quota-exceeded"
    card = {"file": ("card.json", in_json(V3))}
    (item,) = (await alice.post("/v1/imports", files=card)).json()["items"]
    assert (item["status"], item["problem"]["type"]) == (403, "/problems/quota-exceeded")
    assert await Character.count() == 1
    await character(charlie)


async def test_bytes_beyond_the_quota_are_refused(alice: Client, charlie: Client) -> None:
    mira = await character(alice)
    picture = draw_picture()
    await put_portrait(charlie, await character(charlie), picture)
    size = await stored(picture)
    await use(stored_bytes=MOST_BYTES - size + 1)
    detail = "A user may store 1073741824 bytes of portraits and cards."
    assert_refused(await put_portrait(alice, mira, picture), detail)
    await use(stored_bytes=MOST_BYTES - 500)
    assert_refused(await alice.put(f"/v1/characters/{mira['id']}/card", json={"nickname": "N" * 1_000}), detail)
    card = {"file": ("card.json", in_json(V3))}
    (item,) = (await alice.post("/v1/imports", files=card)).json()["items"]
    assert item["problem"]["type"] == "/problems/quota-exceeded"
    assert await used(alice) == (1, MOST_BYTES - 500)
    await use(stored_bytes=MOST_BYTES - size)
    assert (await put_portrait(alice, mira, picture)).status_code == 200
    await use(stored_bytes=MOST_BYTES + 1)
    await character(alice)
    assert (await alice.delete(f"/v1/characters/{mira['id']}")).status_code == 204, "what frees bytes is never refused"
    assert (await alice.delete(f"/v1/trash/{mira['id']}")).status_code == 204


async def test_a_template_has_a_limited_number_of_versions(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "settings", replace(settings, quota_template_versions=2))
    fighter = await template(alice)
    path = f"/v1/templates/{fighter['id']}/versions"
    answers = [await alice.post(path, json={"attribute_schema": FIGHTER}) for _ in range(2)]
    assert answers[0].status_code == 201
    assert_refused(answers[1], "A template may have 2 versions.")
    assert len((await alice.get(path)).json()["items"]) == 2


async def test_a_purged_user_leaves_no_usage(alice: Client, charlie: Client) -> None:
    await put_portrait(alice, await character(alice), draw_picture())
    await character(charlie)
    await User.update({User.status: "suspended"}).where(User.username == "alice")
    await DB.run_ddl("UPDATE users SET deleted_at = now() - interval '31 days' WHERE username = 'alice'")
    assert (await purge_everything())["accounts"] == 1
    (row,) = await DB._run_in_pool("SELECT count(*) AS number, sum(characters) AS characters FROM user_usage")
    assert (row["number"], row["characters"]) == (1, 1)
