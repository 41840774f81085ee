"""CHARX: a zip with ``card.json`` at its root. Nothing is unpacked to a disk, and no header is believed."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from io import BytesIO

import msgspec

from service.errors import Unprocessable

CARD = "card.json"
MOST_ENTRIES = 1_000
LARGEST = 64 * 1024 * 1024  # bytes, unpacked, of all entries together
RATIO = 200  # of unpacked to packed, beyond what is FREE; JSON that repeats itself reaches 100
FREE = 1024 * 1024  # bytes
LONGEST_PATH = 500  # characters

_PIECE = 64 * 1024
_DIRECTORY_ENTRY = b"PK\x01\x02"
_READ = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a bound
_BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, OverflowError, IndexError
)  # fmt: skip
_BEGINNING = (1980, 1, 1, 0, 0, 0)  # one character, one file


class Charx(msgspec.Struct):
    """The card, the other files by path, and what stood before the zip: a picture, where one file is both."""

    card: bytes
    files: dict[str, bytes]
    before: bytes


def is_charx(content: bytes) -> bool:
    """A zip, or a picture with a zip behind it."""
    return zipfile.is_zipfile(BytesIO(content))


def read_charx(content: bytes) -> Charx:
    """Raises Unprocessable for what is no sound zip with a card, or breaks a bound."""
    if content.count(_DIRECTORY_ENTRY) > MOST_ENTRIES:  # zipfile would read as many as there are
        raise Unprocessable(f"The zip has more than {MOST_ENTRIES} entries.")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            entries = list(_entries(archive))
            files = _unpacked(archive, entries)
    except _BROKEN as error:
        raise Unprocessable("The zip is damaged, encrypted, or packed in a way that is not read.") from error
    if CARD not in files:
        raise Unprocessable(f"The zip has no {CARD} at its root.")
    return Charx(files.pop(CARD), files, content[: max(0, min(entry.header_offset for entry in entries))])


def write_charx(card: bytes, files: Mapping[str, bytes]) -> bytes:
    """``files`` are stored as they are: pictures and sounds are packed already."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(zipfile.ZipInfo(CARD, _BEGINNING), card, zipfile.ZIP_DEFLATED)
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, _BEGINNING), content, zipfile.ZIP_STORED)
    return target.getvalue()


def is_safe(path: str) -> bool:
    """Whether a file may have this path: relative, plain, and nowhere but below the root."""
    return (
        0 < len(path) <= LONGEST_PATH
        and path.isprintable()
        and not path.startswith("/")
        and not {"\\", ":"} & {*path}
        and not {"", ".", ".."} & {*path.split("/")}
    )


def _entries(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    seen = set()
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        path = entry.orig_filename  # zipfile cuts a name at a NUL
        if not is_safe(path):
            raise Unprocessable("The zip has an entry whose path leads out of it, or is none.")
        if path in seen:
            raise Unprocessable("The zip has two entries with one path.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise Unprocessable("The zip has a symbolic link.")
        if entry.compress_type not in _READ or entry.flag_bits & 1:
            raise zipfile.BadZipFile
        seen.add(path)
        yield entry


def _unpacked(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = LARGEST
    for entry in entries:
        files[entry.filename] = content = _read(archive, entry, left)
        left -= len(content)
    return files


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> bytes:
    most = min(left, max(FREE, entry.compress_size * RATIO))
    pieces = []
    size = 0
    with archive.open(entry) as member:
        while piece := member.read(_PIECE):
            size += len(piece)
            if size > most:
                raise Unprocessable("The zip unpacks to too much.")
            pieces.append(piece)
    return b"".join(pieces)
