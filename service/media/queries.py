"""Uploaded files. A row is inserted before its file is written and deleted after it: every stored file has a row.

An upload first inserts or updates the row and commits. Then it writes the file, even if it exists already:
`piccolo service collect_files` may be deleting it. That command locks the row, so the upload waits for it.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from io import BytesIO
from typing import IO, Any

import msgspec
from loguru import logger
from piccolo.querystring import QueryString

from service.database.engine import DB
from service.database.held import check_no_connection
from service.database.prepared import Param, Prepared, json_object
from service.database.shares import ON_BEHALF_OF
from service.errors import NotFound
from service.limits.rate_limits import STORED_BYTES
from service.log import REQUEST, OncePerMinute
from service.media.images.workers import clean
from service.media.schemas import PICTURE_VERSION_LENGTH, SIZES
from service.media.storage import STORAGE, derived_key
from service.media.tables import StoredFile

LINK_SECONDS = 600
BLOCK = 4096  # bytes of the disk that each file takes at least

_LOST = OncePerMinute()  # lines in the log for each file
_KEY = derived_key("names of files")
_COLUMNS = ("name", "size", "width", "height", "color")
_UPSERT = Prepared(
    lambda: QueryString(
        "INSERT INTO files (name, size, width, height, color, stored_at)"
        " SELECT *, now() FROM unnest({}::text[], {}::int[], {}::int[], {}::int[], {}::text[]) AS given (name)"
        " ORDER BY name"  # the same for all uploads, so that none waits for another that waits for it
        " ON CONFLICT (name) DO UPDATE SET width = coalesce(files.width, excluded.width),"
        " height = coalesce(files.height, excluded.height), color = coalesce(files.color, excluded.color),"
        " stored_at = now()",
        *map(Param, _COLUMNS),
    )
)
_PICTURE = Prepared(
    lambda: StoredFile.select(StoredFile.width, StoredFile.height, StoredFile.color).where(
        StoredFile.name == Param("name")
    )
)


def picture_fields(of: Any, path: Any) -> QueryString:
    """The JSON of a ``Portrait``, or null: ``of`` is a foreign key to its file, ``path`` that of its URL."""
    url = QueryString(f"{{}} || '?v=' || left({{}}, {PICTURE_VERSION_LENGTH})", path, of)
    fields = {"url": url, "width": of.width, "height": of.height, "color": of.color}
    return QueryString("CASE WHEN {} IS NOT NULL THEN {} END", of, json_object(fields))


def picture_version(name: str) -> str:
    """The ``v`` in the URL of the picture with this name, as ``picture_fields`` makes it."""
    return name[:PICTURE_VERSION_LENGTH]


def picture_columns(of: Any) -> list[Any]:
    """The columns that ``show_picture`` needs; ``of`` is a foreign key to the file."""
    return [of.name.as_alias("name"), *(getattr(of, name).as_alias(name) for name in ("width", "height", "color"))]


class NewFile(msgspec.Struct, frozen=True):
    """The row of a file that was just stored; ``refer_to`` gives its name."""

    name: str
    size: int
    width: int | None = None
    height: int | None = None
    color: str | None = None


async def store_picture(picture: IO[bytes], *, dry_run: bool = False) -> NewFile:
    """Validates, cleans and stores the picture in a file on disk; ``dry_run`` stores nothing. Call it outside of
    transactions.

    Raises UnsupportedMediaType or Unprocessable if the picture is not valid, Unavailable if too many are waiting.
    """
    cleaned = await clean(picture)
    name = await content_name(picture)
    files = {file_name(name, size): each for size, each in cleaned.files.items()}
    file = NewFile(name, _counted(files.values()), cleaned.width, cleaned.height, cleaned.color)
    if not dry_run:
        await _store([file], files)
    return file


async def store_file(content: bytes, *, dry_run: bool = False) -> NewFile:
    """Like ``store_files``, for one."""
    (file,) = await store_files([content], dry_run=dry_run)
    return file


async def store_files(contents: Collection[bytes], *, dry_run: bool = False) -> list[NewFile]:
    """Stores each content unchanged, never to be shown as a picture; ``dry_run`` stores nothing. Call it outside of
    transactions."""
    names = await asyncio.to_thread(lambda: [_keyed_hash(BytesIO(content)) for content in contents])
    files = [NewFile(name, _counted([content])) for name, content in zip(names, contents, strict=True)]
    if not dry_run:
        await _store(files, dict(zip(names, contents, strict=True)))
    return files


async def refer_to(file: NewFile) -> str:
    """Like ``refer_to_all``, for one."""
    (name,) = await refer_to_all([file])
    return name


async def refer_to_all(files: Collection[NewFile]) -> list[str]:
    """The names of the files, for foreign keys. A dry run inserts their rows, which are rolled back."""
    if DB.is_dry_run and files:
        await _insert(files)
    return [file.name for file in files]


async def get_past_picture(name: str) -> dict[str, Any]:
    """Like ``picture_fields``, for a picture that has been replaced: ``url`` is a link that lasts LINK_SECONDS."""
    row = await _PICTURE.one(name=name)
    return {"url": await STORAGE.link(file_name(name, "original"), LINK_SECONDS), **row}


async def content_name(file: IO[bytes]) -> str:
    """A keyed hash: the same for the same bytes, and not predictable without the key."""
    return await asyncio.to_thread(_keyed_hash, file)


def _keyed_hash(file: Any) -> str:
    file.seek(0)
    return hashlib.file_digest(file, partial(hmac.new, _KEY, digestmod="sha256")).hexdigest()


async def read_file(name: str) -> bytes:
    """A file that the database names. Raises NotFound if it is lost: the storage does not have it."""
    try:
        return await STORAGE.get(name)
    except FileNotFoundError:
        if times := _LOST.count(name):
            path = scope["path"] if (scope := REQUEST.get()) else ""
            logger.bind(times=times).error("The storage has no file {}, which {} needs.", name, path or "a command")
        raise NotFound("The file is lost: the storage of the server does not have it.") from None


def file_name(name: str, size: str) -> str:
    """The file of a picture in one of its sizes."""
    return f"{name}-{size}.webp"


def stored_names(name: str) -> list[str]:
    """The names of all files that the storage may have for a row."""
    return [name, *(file_name(name, size) for size in SIZES)]


def _counted(contents: Iterable[bytes]) -> int:
    """The bytes that files with these contents take, at least: each has blocks of its own."""
    return sum(max(BLOCK, len(content)) for content in contents)


async def _store(rows: Collection[NewFile], files: Mapping[str, bytes]) -> None:
    check_no_connection("Storing a file")  # also because its row must be committed before it is written
    if not files:
        return
    await _count_bytes(_counted(files.values()))
    await _insert(rows)
    await STORAGE.put_all(files)


async def _insert(files: Collection[NewFile]) -> None:
    """Inserts or updates their rows, in one statement."""
    distinct = {file.name: file for file in files}.values()
    await _UPSERT.one(**{column: [getattr(file, column) for file in distinct] for column in _COLUMNS})


async def _count_bytes(size: int) -> None:
    """Raises TooManyRequests when the caller has stored too much, as replaced and refused files stay for a day, and no
    quota counts them."""
    if (caller := ON_BEHALF_OF.get()) is None:
        return
    STORED_BYTES.check(*await STORED_BYTES.counter.count(str(caller), size))
