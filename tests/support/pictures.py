"""Draws pictures for tests."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from uuid import UUID

from PIL import Image

from service.characters.tables import Character
from service.database.engine import DB
from service.media.queries import file_name
from service.media.storage import STORAGE

FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "GIF")


def draw_picture(kind: str = "PNG", width: int = 40, height: int = 30, color: str = "#c81e1e", **options: Any) -> bytes:
    """A picture of one color with a black rectangle in the upper left corner."""
    picture = Image.new("RGB", (width, height), color)
    picture.paste((0, 0, 0), (0, 0, width // 4, height // 4))
    return saved(picture, kind, **options)


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@contextmanager
def in_file(content: bytes) -> Iterator[IO[bytes]]:
    """As an upload is."""
    with SpooledTemporaryFile() as file:
        file.write(content)
        yield file


def apng() -> bytes:
    """An animated PNG of two frames."""
    frames = [opened(draw_picture("PNG", color=color)) for color in ("#ff0000", "#00ff00")]
    return saved(frames[0], "PNG", save_all=True, append_images=frames[1:])


def opened(content: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(content))
    picture.load()
    return picture


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png(width: int, height: int) -> bytes:
    """A decompression bomb: a small file whose header declares a large picture."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    lines = zlib.compress(bytes((width // 8 + 1) * min(height, 2_000)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


async def give_portrait(character: Any, color: str = "#123456") -> str:
    """Stores a portrait without the process that cleans uploads. Returns the name of its file."""
    name = color.strip("#") * 10 + "abcd"
    for size in ("original", "1024", "512", "256", "64"):
        await STORAGE.put(file_name(name, size), draw_picture("WEBP", 20, 10, color))
    await DB._run_in_pool(
        "INSERT INTO files (name, size, width, height, color, stored_at) VALUES ($1, 99, 20, 10, $2, now())"
        " ON CONFLICT DO NOTHING",
        [name, color],
    )
    await Character.update({Character.portrait: name}).where(Character.id == UUID(character["id"]))
    return name
