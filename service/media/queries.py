"""Uploaded files. A row is inserted before its file is written and deleted after it: every stored file has a row.

An upload first inserts or updates the row and commits. Then it writes the file, even if it exists already:
`piccolo service collect_files` may be deleting it. That command locks the row, so the upload waits for it.
"""

import asyncio
import hmac
from collections.abc import Mapping
from typing import Any

from piccolo.querystring import QueryString

from service.database.engine import DB
from service.database.prepared import Param, Prepared, json_object
from service.media.images.workers import WORKERS
from service.media.schemas import SIZES
from service.media.storage import STORAGE, derived_key
from service.media.tables import StoredFile

LINK_SECONDS = 600

_KEY = derived_key("names of files")
_UPSERT = Prepared(
    lambda: QueryString(
        "INSERT INTO files (name, size, width, height, color, stored_at) VALUES ({}, {}, {}, {}, {}, now())"
        " ON CONFLICT (name) DO UPDATE SET width = coalesce(excluded.width, files.width),"
        " height = coalesce(excluded.height, files.height), color = coalesce(excluded.color, files.color),"
        " stored_at = now()",
        *(Param(name) for name in ("name", "size", "width", "height", "color")),
    )
)
_PICTURE = Prepared(
    lambda: StoredFile.select(StoredFile.width, StoredFile.height, StoredFile.color).where(
        StoredFile.name == Param("name")
    )
)


def picture_fields(of: Any, url: Any) -> QueryString:
    """The JSON of a ``Portrait``, or null: ``of`` is a foreign key to its file, ``url`` its address."""
    fields = {"url": url, "width": of.width, "height": of.height, "color": of.color}
    return QueryString("CASE WHEN {} IS NOT NULL THEN {} END", of, json_object(fields))


def picture_columns(of: Any) -> list[Any]:
    """The columns that ``show_picture`` needs; ``of`` is a foreign key to the file."""
    return [of.name.as_alias("name"), *(getattr(of, name).as_alias(name) for name in ("width", "height", "color"))]


async def store_picture(content: bytes) -> str:
    """Validates, cleans and stores a picture; returns the name of its file, for a foreign key.

    Raises UnsupportedMediaType or Unprocessable if the picture is not valid, Unavailable if too many are waiting.
    """
    picture = await WORKERS.clean(content)
    name = await content_name(content)
    files = {file_name(name, size): each for size, each in picture.files.items()}
    about = {"width": picture.width, "height": picture.height, "color": picture.color}
    await _store(name, files, size=len(content), **about)
    return name


async def store_file(content: bytes) -> str:
    """Stores bytes unchanged, never to be shown as a picture; returns the name of the file, for a foreign key."""
    name = await content_name(content)
    await _store(name, {name: content}, size=len(content), width=None, height=None, color=None)
    return name


async def get_past_picture(name: str) -> dict[str, Any]:
    """Like ``picture_fields``, for a picture that has been replaced: ``url`` is a link that lasts LINK_SECONDS."""
    row = await _PICTURE.one(name=name)
    return {"url": await STORAGE.link(file_name(name, "original"), LINK_SECONDS), **row}


async def content_name(content: bytes) -> str:
    """A keyed hash: the same for the same bytes, and not predictable without the key."""
    return (await asyncio.to_thread(hmac.digest, _KEY, content, "sha256")).hex()


def file_name(name: str, size: str) -> str:
    """The file of a picture in one of its sizes."""
    return f"{name}-{size}.webp"


def stored_names(name: str) -> list[str]:
    """The names of all files that the storage may have for a row."""
    return [name, *(file_name(name, size) for size in SIZES)]


async def _store(name: str, files: Mapping[str, bytes], **about: Any) -> None:
    if DB.is_dry_run:
        await _UPSERT.one(name=name, **about)  # rolled back with the dry run; nothing is written
        return
    with DB.outside_transaction():
        await _UPSERT.one(name=name, **about)
    await asyncio.gather(*(STORAGE.put(each, content) for each, content in files.items()))
