"""Storage of uploaded files: a local directory, or an S3-compatible bucket.

The name of a file begins with a keyed hash of its upload: it cannot be guessed, and the file never changes.
"""

import asyncio
import hmac
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from loguru import logger

from service.database.held import check_no_connection
from service.errors import Unavailable
from service.settings import Settings, settings

RETRIES = 3
AT_ONCE = 8  # files that are written at a time: a disk makes several durable in the time of one
WEBP = "image/webp"
YEAR = "private, max-age=31536000, immutable"


class Storage(Protocol):
    """No method may be awaited while a database connection is held."""

    gives_links: bool  # whether clients fetch files directly from the storage, by link

    async def put(self, name: str, content: bytes) -> None:
        """Writes the file atomically; it is durable when this returns."""

    async def put_all(self, files: Mapping[str, bytes]) -> None:
        """Writes each file atomically, several at a time; all are durable when this returns."""

    async def get(self, name: str) -> bytes:
        """Raises FileNotFoundError."""

    async def lacks(self, names: Sequence[str]) -> list[str]:
        """The names of files that it does not have, in their order."""

    async def delete(self, names: Iterable[str]) -> None:
        """Missing names are ignored."""

    async def link(self, name: str, seconds: int) -> str:
        """A URL that needs no token and is valid for so many seconds; relative if this service answers it."""


class Directory:
    """Files below ``root``, in directories named by the first four characters of their names."""

    gives_links = False

    def __init__(self, root: Path) -> None:
        self.root = root
        # Threads of its own: those of asyncio also hash passwords and read files, and would wait for a card of many
        self._writers = ThreadPoolExecutor(AT_ONCE, "files")

    async def put(self, name: str, content: bytes) -> None:
        await self.put_all({name: content})

    async def put_all(self, files: Mapping[str, bytes]) -> None:
        check_no_connection("Writing a file")
        paths = {self._path(name): content for name, content in files.items()}
        await self._each(self._write, list(paths.items()))
        # A new directory is an entry that must be durable, too. Each is synchronised once, after all of its entries
        directories = {self.root, *(parent for path in paths for parent in (path.parent, path.parent.parent))}
        await self._each(sync_directory, list(directories))

    async def get(self, name: str) -> bytes:
        check_no_connection("Reading a file")
        return await asyncio.to_thread(self._path(name).read_bytes)

    async def lacks(self, names: Sequence[str]) -> list[str]:
        check_no_connection("Looking for files")
        return await asyncio.to_thread(lambda: [name for name in names if not self._path(name).exists()])

    async def delete(self, names: Iterable[str]) -> None:
        check_no_connection("Deleting files")
        await asyncio.to_thread(self._unlink, [self._path(name) for name in names])

    async def link(self, name: str, seconds: int) -> str:
        check_no_connection("Signing a link")  # a bucket may need the network for it
        expires = int(time.time()) + seconds
        return f"/media/{name}?expires={expires}&signature={signature(name, expires)}"

    def _path(self, name: str) -> Path:
        return self.root / name[:2] / name[2:4] / name

    async def _each(self, work: Callable[[Any], None], items: Sequence[Any]) -> None:
        """Does the work for each item in AT_ONCE threads."""

        def work_through(some: Sequence[Any]) -> None:
            for item in some:
                work(item)

        shares = [share for first in range(AT_ONCE) if (share := items[first::AT_ONCE])]
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self._writers, work_through, share) for share in shares))

    def _write(self, file_and_content: tuple[Path, bytes]) -> None:
        path, content = file_and_content
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _unlink(self, paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                path.parent.rmdir()
                path.parent.parent.rmdir()


class Bucket:
    """Files in an S3-compatible bucket. Clients fetch them from it, by signed links."""

    gives_links = True

    def __init__(self, settings: Settings) -> None:
        # Slow to import: half the start-up time, which services without a bucket save
        from obstore.store import S3Store

        address = urlsplit(settings.storage_url)
        given: dict[str, Any] = {
            "endpoint": settings.s3_endpoint_url,
            "access_key_id": settings.s3_access_key_id,
            "secret_access_key": settings.s3_secret_access_key,
            "prefix": address.path.strip("/"),
        }
        self.store: Any = S3Store(
            address.netloc,
            region=settings.s3_region,
            client_options={"allow_http": settings.s3_endpoint_url.startswith("http://"), "timeout": "30s"},
            retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=20)},
            **{name: value for name, value in given.items() if value},
        )

    async def put(self, name: str, content: bytes) -> None:
        check_no_connection("Writing a file")
        attributes = {"Content-Type": media_type(name), "Cache-Control": YEAR}
        with _storage_errors(name):
            await self.store.put_async(name, content, attributes=attributes)

    async def put_all(self, files: Mapping[str, bytes]) -> None:
        at_once = asyncio.Semaphore(AT_ONCE)

        async def put(name: str, content: bytes) -> None:
            async with at_once:
                await self.put(name, content)

        await asyncio.gather(*(put(name, content) for name, content in files.items()))

    async def get(self, name: str) -> bytes:
        check_no_connection("Reading a file")
        with _storage_errors(name):
            found = await self.store.get_async(name)
            return bytes(await found.bytes_async())

    async def lacks(self, names: Sequence[str]) -> list[str]:
        check_no_connection("Looking for files")
        at_once = asyncio.Semaphore(AT_ONCE)

        async def is_lacking(name: str) -> bool:
            async with at_once:
                with suppress(FileNotFoundError), _storage_errors(name):
                    await self.store.head_async(name)
                    return False
            return True

        lacking = await asyncio.gather(*map(is_lacking, names))
        return [name for name, is_missing in zip(names, lacking, strict=True) if is_missing]

    async def delete(self, names: Iterable[str]) -> None:
        check_no_connection("Deleting files")
        if together := list(names):
            with suppress(FileNotFoundError), _storage_errors(f"{together[0]} or another of {len(together)}"):
                await self.store.delete_async(together)  # one request for each 1,000 names

    async def link(self, name: str, seconds: int) -> str:
        from obstore import sign_async

        check_no_connection("Signing a link")  # may fetch credentials
        with _storage_errors(name):
            return str(await sign_async(self.store, "GET", name, timedelta(seconds=seconds)))


@contextmanager
def _storage_errors(name: str) -> Iterator[None]:
    """Raises FileNotFoundError for a missing file; logs any other failure and raises Unavailable."""
    from obstore.exceptions import BaseError, NotFoundError

    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError(name) from error
    except BaseError as error:
        logger.warning("The storage failed for file {}: {}", name, error)
        raise Unavailable("The storage cannot be reached.") from error


def media_type(name: str) -> str:
    return WEBP if name.endswith(".webp") else "application/octet-stream"


def signature(name: str, expires: int) -> str:
    """The signature of a link to the file that expires at ``expires``, in seconds since 1970."""
    return hmac.digest(_LINKS, f"{name}?{expires}".encode(), "sha256").hex()


def derived_key(purpose: str) -> bytes:
    """A key derived from SECRET_KEY, different for each purpose."""
    return hmac.digest(settings.secret_key.encode(), purpose.encode(), "sha256")


def sync_directory(directory: Path) -> None:
    """Makes the entries of the directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_LINKS = derived_key("links to files")
STORAGE: Storage = Bucket(settings) if settings.storage_url else Directory(settings.data_dir / "files")
