"""Where uploaded files lie: in a directory of this machine, or in an S3-compatible store.

A name tells nothing and is not guessed: it begins with a keyed hash of what was uploaded, so a file never changes.
"""

import asyncio
import hmac
import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from loguru import logger

from service.errors import Unavailable
from service.settings import Settings, settings

RETRIES = 3
YEAR = "private, max-age=31536000, immutable"


class Storage(Protocol):
    gives_links: bool  # whether clients fetch files elsewhere, by link

    async def put(self, name: str, content: bytes) -> None:
        """Whole or not at all, and for good once it returns."""

    async def get(self, name: str) -> bytes:
        """Raises FileNotFoundError."""

    async def delete(self, names: Iterable[str]) -> None:
        """Those that are not there are none."""

    async def link(self, name: str, seconds: int) -> str:
        """An address that gives the file to anybody for so long: ours without a host, or another host's."""


class Directory:
    """Files below ``root``, in directories named by the first four characters of their names."""

    gives_links = False

    def __init__(self, root: Path) -> None:
        self.root = root

    async def put(self, name: str, content: bytes) -> None:
        await asyncio.to_thread(self._write, self._path(name), content)

    async def get(self, name: str) -> bytes:
        return await asyncio.to_thread(self._path(name).read_bytes)

    async def delete(self, names: Iterable[str]) -> None:
        await asyncio.to_thread(self._unlink, [self._path(name) for name in names])

    async def link(self, name: str, seconds: int) -> str:
        expires = int(time.time()) + seconds
        return f"/media/{name}?expires={expires}&signature={signature(name, expires)}"

    def _path(self, name: str) -> Path:
        return self.root / name[:2] / name[2:4] / name

    def _write(self, path: Path, content: bytes) -> None:
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
        for directory in (path.parent, path.parent.parent, self.root):  # new ones are entries that must last, too
            _sync(directory)

    def _unlink(self, paths: Iterable[Path]) -> None:
        for path in paths:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # others are in it
                path.parent.rmdir()
                path.parent.parent.rmdir()


class Bucket:
    """Files in an S3-compatible store, which signs the links that clients fetch them by."""

    gives_links = True

    def __init__(self, settings: Settings) -> None:
        from obstore.store import S3Store  # half the start-up time of a service that has no bucket

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
        about = {"Content-Type": media_type(name), "Cache-Control": YEAR}
        with _told(name):
            await self.store.put_async(name, content, attributes=about)

    async def get(self, name: str) -> bytes:
        with _told(name):
            found = await self.store.get_async(name)
            return bytes(await found.bytes_async())

    async def delete(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError), _told(name):
                await self.store.delete_async(name)

    async def link(self, name: str, seconds: int) -> str:
        from obstore import sign_async

        with _told(name):
            return str(await sign_async(self.store, "GET", name, timedelta(seconds=seconds)))


class _told:  # noqa: N801 (reads as the function that it would be)
    """What a store's failure is to a client: 503, and to operators a line in the log."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        from obstore.exceptions import BaseError, NotFoundError

        if isinstance(error, NotFoundError):
            raise FileNotFoundError(self.name) from error
        if isinstance(error, BaseError):
            logger.warning("The storage failed for {}: {}", self.name, error)
            raise Unavailable("The storage cannot be reached.") from error


def media_type(name: str) -> str:
    return "image/webp" if name.endswith(".webp") else "application/octet-stream"


def signature(name: str, expires: int) -> str:
    """What a link to the file carries that ends at ``expires``, in seconds since 1970."""
    return hmac.digest(_LINKS, f"{name}?{expires}".encode(), "sha256").hex()


def derived_key(purpose: str) -> bytes:
    """A key of its own for each purpose, from SECRET_KEY."""
    return hmac.digest(settings.secret_key.encode(), purpose.encode(), "sha256")


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_LINKS = derived_key("links to files")
STORAGE: Storage = Bucket(settings) if settings.storage_url else Directory(settings.data_dir / "files")
