"""Files that were uploaded. Their rows come first and go last, so that none is ever in the storage without a row.

Whoever stores a file claims its row, which is committed at once, and writes the bytes even if they are there already:
`piccolo service collect_files` may be deleting them just now, and whoever claims a row waits for that.
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
_CLAIM = Prepared(
    lambda: QueryString(
        "INSERT INTO files (name, size, width, height, color, stored_at) VALUES ({}, {}, {}, {}, {}, now())"
        " ON CONFLICT (name) DO UPDATE SET width = coalesce(excluded.width, files.width),"
        " height = coalesce(excluded.height, files.height), color = coalesce(excluded.color, files.color),"
        " stored_at = now()",
        *(Param(name) for name in ("name", "size", "width", "height", "color")),
    )
)
_ABOUT = Prepared(
    lambda: StoredFile.select(StoredFile.width, StoredFile.height, StoredFile.color).where(
        StoredFile.name == Param("name")
    )
)


def picture_fields(of: Any, url: Any) -> QueryString:
    """What is told of the picture that ``of``, a foreign key to a file, refers to; ``url`` is where it is."""
    fields = {"url": url, "width": of.width, "height": of.height, "color": of.color}
    return QueryString("CASE WHEN {} IS NOT NULL THEN {} END", of, json_object(fields))


def picture_columns(of: Any) -> list[Any]:
    """The row that a picture is shown from, by what refers to it."""
    return [of.name.as_alias("name"), *(getattr(of, name).as_alias(name) for name in ("width", "height", "color"))]


async def store_picture(content: bytes) -> str:
    """Checks, cleans and stores a picture; the name of its file, for a foreign key.

    Raises UnsupportedMediaType or Unprocessable for what is no good picture, Unavailable when too many are waiting.
    """
    picture = await WORKERS.clean(content)
    name = await name_of(content)
    files = {file_name(name, size): each for size, each in picture.files.items()}
    about = {"width": picture.width, "height": picture.height, "color": picture.color}
    await _store(name, files, size=len(content), **about)
    return name


async def store_file(content: bytes) -> str:
    """Stores bytes as they are, which nobody is ever shown as a picture; the name of the file, for a foreign key."""
    name = await name_of(content)
    await _store(name, {name: content}, size=len(content), width=None, height=None, color=None)
    return name


async def get_past_picture(name: str) -> dict[str, Any]:
    """What ``picture_fields`` tells, but of a picture that no route gives any more: behind a link of ten minutes."""
    row = await _ABOUT.one(name=name)
    return {"url": await STORAGE.link(file_name(name, "original"), LINK_SECONDS), **row}


async def name_of(content: bytes) -> str:
    """The same for the same bytes, and nobody else can tell it."""
    return (await asyncio.to_thread(hmac.digest, _KEY, content, "sha256")).hex()


def file_name(name: str, size: str) -> str:
    """Of a picture in one of its sizes."""
    return f"{name}-{size}.webp"


def files_of(name: str) -> list[str]:
    """All that may be in the storage under a row's name."""
    return [name, *(file_name(name, size) for size in SIZES)]


async def _store(name: str, files: Mapping[str, bytes], **about: Any) -> None:
    if DB.is_dry_run:
        await _CLAIM.one(name=name, **about)  # undone with the rest
        return
    with DB.outside_transaction():
        await _CLAIM.one(name=name, **about)
    await asyncio.gather(*(STORAGE.put(each, content) for each, content in files.items()))
