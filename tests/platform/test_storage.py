"""Storage: the same behaviour from a directory and from an S3 server."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from service.errors import Unavailable
from service.media import storage
from service.media.storage import Bucket, Directory, Storage
from service.settings import Settings
from tests.support.s3 import s3_server
from tests.support.servers import directory_of_its_own, free_port

NAME = "ab12" * 16 + "-64.webp"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with directory_of_its_own() as directory, s3_server(directory) as settings:
        yield Bucket(settings)


@pytest.fixture(params=["directory", "bucket"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return Directory(tmp_path / "files") if request.param == "directory" else request.getfixturevalue("bucket")


async def test_files_are_stored_until_they_are_deleted(stored: Storage) -> None:
    with pytest.raises(FileNotFoundError):
        await stored.get(NAME)
    for content in (b"first", b"", bytes(range(256)) * 40_000):
        await stored.put(NAME, content)
        assert await stored.get(NAME) == content
    await stored.put("cd34" * 16, b"other")
    await stored.delete([NAME, "ef56" * 16])
    assert await stored.lacks(["ef56" * 16, "cd34" * 16, NAME]) == ["ef56" * 16, NAME]
    with pytest.raises(FileNotFoundError):
        await stored.get(NAME)
    assert await stored.get("cd34" * 16) == b"other"
    await stored.delete([NAME, "cd34" * 16])
    assert await stored.lacks(["cd34" * 16]) == ["cd34" * 16]


async def test_concurrent_writes_of_the_same_file(stored: Storage) -> None:
    await asyncio.gather(*(stored.put(NAME, b"same" * 1000) for _ in range(20)))
    assert await stored.get(NAME) == b"same" * 1000
    await stored.delete([NAME])


@pytest.mark.slow
async def test_links_of_a_bucket_expire(bucket: Bucket) -> None:
    await bucket.put(NAME, b"picture")
    link = await bucket.link(NAME, 2)
    async with httpx.AsyncClient() as anybody:
        answer = await anybody.get(link)
        assert (answer.status_code, answer.content) == (200, b"picture")
        assert answer.headers["content-type"] == "image/webp"
        assert (await anybody.get(link.partition("?")[0])).status_code == 403
        assert (await anybody.get(link.replace("-64.webp", "-256.webp"))).status_code == 403
        await asyncio.sleep(3.1)
        assert (await anybody.get(link)).status_code == 403
    await bucket.delete([NAME])


async def test_a_bucket_that_cannot_be_reached_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Settings(
        storage_url="s3://files",
        s3_endpoint_url=f"http://127.0.0.1:{free_port()}",
        s3_access_key_id="a",
        s3_secret_access_key="b",
    )
    monkeypatch.setattr(storage, "RETRIES", 0)
    with pytest.raises(Unavailable):
        await Bucket(away).put(NAME, b"")


async def test_files_are_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Directory(tmp_path)
    await directory.put(NAME, b"before")

    def full(_: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            await directory.put(NAME, b"after")
    assert await directory.get(NAME) == b"before"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [NAME]
    await directory.delete([NAME])
    assert list(tmp_path.iterdir()) == []


async def test_links_of_a_directory_are_relative(tmp_path: Path) -> None:
    link = urlsplit(await Directory(tmp_path).link(NAME, 60))
    assert (link.netloc, link.path) == ("", f"/media/{NAME}")


@asynccontextmanager
async def counting_bucket() -> AsyncIterator[tuple[Bucket, list[int]]]:
    """A bucket whose server refuses to delete ``refused``. The list has the number of files of each request."""
    requests: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                assert length is not None
                names = re.findall(rb"<Key>(.+?)</Key>", await reader.readexactly(int(length[1])))
                requests.append(len(names))
                refused = b"<Error><Key>refused</Key><Code>AccessDenied</Code><Message>No.</Message></Error>"
                results = [
                    refused if name == b"refused" else b"<Deleted><Key>%b</Key></Deleted>" % name for name in names
                ]
                body = b"<DeleteResult>%b</DeleteResult>" % b"".join(results)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        keys = {"s3_access_key_id": "a", "s3_secret_access_key": "b"}
        yield Bucket(Settings(storage_url="s3://files", s3_endpoint_url=endpoint, **keys)), requests


async def test_a_bucket_deletes_many_files_with_one_request() -> None:
    """The command that deletes them is in a transaction meanwhile."""
    names = [f"file-{number}" for number in range(120)]
    async with counting_bucket() as (bucket, requests):
        await bucket.delete(iter(names))
        assert requests == [120]
        await bucket.delete([])
        with pytest.raises(Unavailable):
            await bucket.delete([*names, "refused"])
        assert requests == [120, 121]
