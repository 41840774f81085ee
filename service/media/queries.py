"""Uploaded files. A row is inserted before its file is written and deleted after it: every stored file has a row.

An upload first inserts or updates the row and commits. Then it writes the file, even if it exists already:
`piccolo service collect_files` may be deleting it. That command locks the row, so the upload waits for it.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from typing import IO, Any

import msgspec
from piccolo.querystring import QueryString

from service.database.engine import DB
from service.database.held import check_no_connection
from service.database.prepared import Param, Prepared, json_object
from service.database.shares import ON_BEHALF_OF
from service.limits.rate_limits import STORED_BYTES
from service.media.images.workers import clean
from service.media.schemas import PICTURE_VERSION_LENGTH, SIZES
from service.media.storage import STORAGE, derived_key
from service.media.tables import StoredFile

LINK_SECONDS = 600

_KEY = derived_key("names of files")
_UPSERT = Prepared(
    lambda: QueryString(
        "INSERT INTO files (name, size, width, height, color, stored_at) VALUES ({}, {}, {}, {}, {}, now())"
        " ON CONFLICT (name) DO UPDATE SET width = coalesce(files.width, excluded.width),"
        " height = coalesce(files.height, excluded.height), color = coalesce(files.color, excluded.color),"
        " stored_at = now()",
        *(Param(name) for name in ("name", "size", "width", "height", "color")),
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
    size = sum(map(len, files.values()))  # a small upload may become large
    file = NewFile(name, size, cleaned.width, cleaned.height, cleaned.color)
    return file if dry_run else await _store(file, files)


async def store_file(content: bytes, *, dry_run: bool = False) -> NewFile:
    """Stores bytes unchanged, never to be shown as a picture; ``dry_run`` stores nothing. Call it outside of
    transactions."""
    file = NewFile(await content_name(BytesIO(content)), len(content))
    return file if dry_run else await _store(file, {file.name: content})


async def refer_to(file: NewFile) -> str:
    """The name of the file, for a foreign key. A dry run inserts its row, which is rolled back."""
    if DB.is_dry_run:
        await _UPSERT.one(**msgspec.structs.asdict(file))
    return file.name


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


def file_name(name: str, size: str) -> str:
    """The file of a picture in one of its sizes."""
    return f"{name}-{size}.webp"


def stored_names(name: str) -> list[str]:
    """The names of all files that the storage may have for a row."""
    return [name, *(file_name(name, size) for size in SIZES)]


async def _store(file: NewFile, files: Mapping[str, bytes]) -> NewFile:
    check_no_connection("Storing a file")  # also because its row must be committed before it is written
    await _count_bytes(sum(map(len, files.values())))
    await _UPSERT.one(**msgspec.structs.asdict(file))
    await asyncio.gather(*(STORAGE.put(each, content) for each, content in files.items()))
    return file


async def _count_bytes(size: int) -> None:
    """Raises TooManyRequests when the caller has stored too much, as replaced and refused files stay for a day, and no
    quota counts them."""
    if (caller := ON_BEHALF_OF.get()) is None:
        return
    STORED_BYTES.check(*await STORED_BYTES.counter.count(str(caller), size))
