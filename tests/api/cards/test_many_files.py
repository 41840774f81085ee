"""Cards with many small files: they are stored together, they count what they take, and there are not too many."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cards.formats.charx import MAX_ENTRIES
from service.media.queries import BLOCK
from service.media.storage import STORAGE, Directory
from service.media.tables import StoredFile
from tests.support.cards import V3, import_files, imported, in_charx

Client = httpx.AsyncClient


def with_files(number: int) -> bytes:
    return in_charx(V3, **{f"assets/other/{each}.bin": each.to_bytes(8) for each in range(number)})


async def used_bytes(member: Client) -> int:
    return int((await member.get("/v1/users/me/usage")).json()["stored_bytes"]["used"])


async def test_each_file_is_durable_and_each_directory_is_synchronised_once(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(STORAGE, Directory)
    synchronised: list[Path] = []
    at_once: list[int] = []
    running, lock, fsync = 0, threading.Lock(), os.fsync

    def watched(descriptor: int) -> None:
        nonlocal running
        with lock:
            running += 1
            at_once.append(running)
            synchronised.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        time.sleep(0.001)
        fsync(descriptor)
        with lock:
            running -= 1

    monkeypatch.setattr(os, "fsync", watched)
    await imported(alice, with_files(100))
    names = [row["name"] for row in await StoredFile.select(StoredFile.name)]
    directories = [STORAGE.root, *{STORAGE.root / name[:2] for name in names}]
    directories += {STORAGE.root / name[:2] / name[2:4] for name in names}
    of_files = [path for path in synchronised if path not in directories]
    assert (len(names), len(of_files)) == (100, 100)
    assert sorted(path for path in synchronised if path in directories) == sorted(directories)
    assert synchronised[:100] == of_files, "a directory is synchronised after its entries"
    assert 1 < max(at_once) <= 8


async def test_a_small_file_counts_a_block(alice: Client) -> None:
    await imported(alice, with_files(0))
    without = await used_bytes(alice)
    item = await imported(alice, with_files(10))
    assert await used_bytes(alice) == 2 * without + 10 * BLOCK
    await alice.post(f"/v1/characters/{item['character']['id']}/copies", json={})
    assert await used_bytes(alice) == 3 * without + 20 * BLOCK


@pytest.mark.parametrize("dry_run", ["true", "false"])
async def test_a_card_has_a_bounded_number_of_files(alice: Client, dry_run: str) -> None:
    def status(items: Any) -> list[int]:
        return [item["status"] for item in items]

    parameters = {"dry_run": dry_run}
    assert status(await import_files(alice, with_files(MAX_ENTRIES - 1), params=parameters)) == [201]
    (item,) = await import_files(alice, with_files(MAX_ENTRIES), params=parameters)
    assert (item["status"], item["problem"]["detail"]) == (422, "The zip has more than 1250 entries.")


async def test_files_with_the_same_bytes_are_stored_once(alice: Client) -> None:
    item = await imported(alice, in_charx(V3, **{f"assets/other/{each}.bin": b"same" for each in range(5)}))
    assert await StoredFile.count() == 1
    answer = await alice.get(f"/v1/characters/{item['character']['id']}/card?format=charx")
    assert all(f"assets/other/{each}.bin".encode() in answer.content for each in range(5))
