"""``piccolo service collect_files``: deletes only files without references, also during uploads."""

import asyncio
from collections.abc import Iterator
from contextvars import Context
from typing import Any

import httpx
import pytest

from service.commands import collect_files as command
from service.commands.collect_files import delete_unused_files
from service.commands.purge import purge_everything
from service.database.engine import DB
from service.media import queries, transfer
from service.media.queries import store_file, stored_names
from service.media.storage import STORAGE, Bucket
from tests.conftest import PASSWORD, character
from tests.support.pictures import draw_picture
from tests.support.s3 import s3_server
from tests.support.servers import directory_of_its_own

Client = httpx.AsyncClient


async def age(days: float = 2) -> None:
    """Makes all files look as if they had been uploaded so many days ago."""
    await DB._run_in_pool(f"UPDATE files SET stored_at = now() - interval '{days} days'")


async def names() -> set[str]:
    return {row["name"] for row in await DB._run_in_pool("SELECT name FROM files")}


async def portrait_name(row: Any) -> str:
    (found,) = await DB._run_in_pool("SELECT portrait FROM characters WHERE id = $1", [row["id"]])
    return str(found["portrait"])


async def files_in_storage(name: str) -> set[str]:
    """The files of a row that are in the storage."""
    found = set()
    for file in stored_names(name):
        try:
            await STORAGE.get(file)
        except FileNotFoundError:
            continue
        found.add(file)
    return found


async def put(member: Client, row: Any, width: int) -> None:
    path = f"/v1/characters/{row['id']}/portrait"
    answer = await member.put(path, content=draw_picture(width=width), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200


async def test_files_without_references_are_deleted_after_a_day(app: Any) -> None:
    name = (await store_file(b"nobody's")).name
    assert await files_in_storage(name) == {name}
    await age(0.9)
    assert await delete_unused_files() == 0
    await age(1.1)
    assert await delete_unused_files() == 1
    assert (await names(), await files_in_storage(name)) == (set(), set())


async def test_files_with_references_are_kept(alice: Client) -> None:
    mira, otto = await character(alice), await character(alice)
    await put(alice, mira, 41)
    former = await portrait_name(mira)
    await put(alice, mira, 42)  # the first is in the history now
    await put(alice, otto, 43)
    trashed = await portrait_name(otto)
    await alice.delete(f"/v1/characters/{otto['id']}")
    await alice.put("/v1/users/me/avatar", content=draw_picture(width=44), headers={"Content-Type": "image/png"})
    await age()
    before = await names()
    assert len(before) == 4
    assert await delete_unused_files() == 0
    assert await names() == before
    assert len(await files_in_storage(former)) == 5
    assert (await alice.post(f"/v1/characters/{mira['id']}/revisions/2/restorations")).status_code == 201
    await alice.delete(f"/v1/trash/{otto['id']}")
    assert await delete_unused_files() == 1
    assert (before - await names(), await files_in_storage(trashed)) == ({trashed}, set())


async def test_files_of_a_purged_member_are_deleted(alice: Client) -> None:
    await put(alice, await character(alice), 41)
    await alice.put("/v1/users/me/avatar", content=draw_picture(width=44), headers={"Content-Type": "image/png"})
    await alice.request("DELETE", "/v1/users/me", json={"password": PASSWORD})
    await age()
    assert await delete_unused_files() == 0
    await DB._run_in_pool("UPDATE users SET deleted_at = now() - interval '31 days'")
    await purge_everything()
    assert await delete_unused_files() == 2
    assert await names() == set()


async def test_the_same_bytes_have_one_row_and_are_written_again(alice: Client) -> None:
    mira, otto = await character(alice), await character(alice)
    await put(alice, mira, 41)
    await put(alice, otto, 41)
    assert len(await names()) == 1
    await age()
    await put(alice, otto, 41)  # is no change, but it was stored just now
    for row in (mira, otto):
        await alice.delete(f"/v1/characters/{row['id']}")
        await alice.delete(f"/v1/trash/{row['id']}")
    assert await delete_unused_files() == 0


async def test_an_upload_waits_for_the_deletion_of_the_same_file_and_writes_it_again(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = (await store_file(b"both want it")).name
    await age()
    deleting, go_on = asyncio.Event(), asyncio.Event()
    delete = STORAGE.delete

    async def delete_slowly(files: Any) -> None:
        deleting.set()
        await go_on.wait()
        await delete(files)

    monkeypatch.setattr(STORAGE, "delete", delete_slowly)
    collecting = asyncio.create_task(delete_unused_files())
    await deleting.wait()  # its row is deleted, though not for good
    storing = asyncio.create_task(store_file(b"both want it"))
    await asyncio.sleep(0.3)
    assert not storing.done()
    go_on.set()
    assert (await collecting, (await storing).name) == (1, name)
    assert (await names(), await files_in_storage(name)) == ({name}, {name})


async def test_a_file_that_is_uploaded_again_is_kept(alice: Client) -> None:
    name = (await store_file(b"once more")).name
    await age()
    async with DB.transaction():
        await queries._UPSERT.one(name=[name], size=[9], width=[None], height=[None], color=[None])
        collecting = asyncio.create_task(delete_unused_files(), context=Context())
        await asyncio.sleep(0.3)
        assert not collecting.done()
    assert await collecting == 0
    assert (await names(), await files_in_storage(name)) == ({name}, {name})


async def test_a_failed_deletion_is_repeated(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = (await store_file(b"stubborn")).name
    await age()

    async def fail(_: Any) -> None:
        raise OSError("the disk is away")

    with monkeypatch.context() as patched:
        patched.setattr(STORAGE, "delete", fail)
        with pytest.raises(OSError, match="away"):
            await delete_unused_files()
    assert await names() == {name}
    assert await delete_unused_files() == 1


async def test_files_are_deleted_in_batches(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        await store_file(bytes([number]))
    await age()
    monkeypatch.setattr(command, "BATCH_SIZE", 2)
    assert await delete_unused_files() == 7


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with directory_of_its_own() as directory, s3_server(directory) as settings:
        yield Bucket(settings)


@pytest.mark.slow
async def test_with_a_bucket_pictures_are_fetched_from_it(
    alice: Client, stranger: Client, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (queries, transfer, command):
        monkeypatch.setattr(module, "STORAGE", bucket)
    mira = await character(alice)
    await put(alice, mira, 100)
    path = f"/v1/characters/{mira['id']}/portrait"
    shown = await alice.get(path, params={"size": "64"})
    assert (shown.status_code, shown.headers["cache-control"]) == (307, "no-store")
    links = (await alice.get(path, headers={"Accept": "application/json"})).json()["links"]
    async with Client() as anybody:
        for link in (shown.headers["location"], links["64"]):
            assert (await anybody.get(link)).headers["content-type"] == "image/webp"
    assert (await stranger.get(path)).status_code == 404
    await alice.patch(f"/v1/characters/{mira['id']}", json={"visibility": "public"})
    url = (await alice.get(f"/v1/characters/{mira['id']}")).json()["portrait"]["url"]
    assert (await stranger.get(url)).headers["cache-control"] == "public, max-age=300"
    assert (await stranger.get(path)).headers["cache-control"] == "no-store"
    await alice.delete(path)
    await alice.delete(f"/v1/characters/{mira['id']}")
    await alice.delete(f"/v1/trash/{mira['id']}")
    await age()
    assert await delete_unused_files() == 1
    async with Client() as anybody:
        assert (await anybody.get(links["64"])).status_code == 404
