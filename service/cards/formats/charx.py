"""The zip of a CHARX or BYAF file. It is unpacked in memory; sizes in headers are not trusted."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import IO

import msgspec

from service.errors import Unprocessable

CARD = "card.json"
MAX_ENTRIES = 1_250  # some writers store 500 assets with a file of metadata beside each
MAX_UNPACKED = 64 * 1024 * 1024  # bytes of all entries together
MAX_RATIO = 200  # unpacked bytes to packed bytes of an entry; repetitive JSON reaches 100
RATIO_FREE = 1024 * 1024  # bytes that an entry may have unpacked, whatever the ratio
PATH_LENGTH = 500  # characters

_BLOCK = 64 * 1024
_DIRECTORY_ENTRY = b"PK\x01\x02"
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks others without a limit
_READ_ERRORS = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, OverflowError, IndexError
)  # fmt: skip
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the same for all exports: the same character gives the same bytes


class Zip(msgspec.Struct):
    """``files`` by path, and the bytes ``before`` the zip, such as a picture."""

    files: dict[str, bytes]
    before: bytes


class CharxWriter:
    """Writes a CHARX to ``target``. Files are not compressed: pictures and sounds are already."""

    def __init__(self, target: IO[bytes], card: bytes) -> None:
        self._archive = zipfile.ZipFile(target, "w")
        self._archive.writestr(zipfile.ZipInfo(CARD, _TIMESTAMP), card, zipfile.ZIP_DEFLATED)

    def add(self, path: str, content: bytes) -> None:
        self._archive.writestr(zipfile.ZipInfo(path, _TIMESTAMP), content, zipfile.ZIP_STORED)

    def end(self) -> None:
        self._archive.close()


def is_zip(content: bytes) -> bool:
    """Whether the content is a zip, or a picture followed by a zip."""
    return zipfile.is_zipfile(BytesIO(content))


def read_zip(content: bytes) -> Zip:
    """Raises Unprocessable if the content is not an intact zip, or exceeds a limit."""
    if content.count(_DIRECTORY_ENTRY) > MAX_ENTRIES:  # zipfile itself has no limit
        raise Unprocessable(f"The zip has more than {MAX_ENTRIES} entries.")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            entries = list(_entries(archive))
            files = _unpacked(archive, entries)
    except _READ_ERRORS as error:
        raise Unprocessable("The zip is damaged, encrypted, or uses an unsupported compression.") from error
    return Zip(files, content[: max(0, min((entry.header_offset for entry in entries), default=0))])


def is_safe(path: str) -> bool:
    """Whether the path is relative, printable and stays below the root."""
    return (
        0 < len(path) <= PATH_LENGTH
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
            raise Unprocessable("The zip has an entry whose path is not valid or leads out of the zip.")
        if path in seen:
            raise Unprocessable("The zip has two entries with the same path.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise Unprocessable("The zip has a symbolic link.")
        if entry.compress_type not in _METHODS or entry.flag_bits & 1:
            raise zipfile.BadZipFile
        seen.add(path)
        yield entry


def _unpacked(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = MAX_UNPACKED
    for entry in entries:
        files[entry.filename] = content = _read(archive, entry, left)
        left -= len(content)
    return files


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> bytes:
    most = min(left, max(RATIO_FREE, entry.compress_size * MAX_RATIO))
    blocks = []
    size = 0
    with archive.open(entry) as member:
        while block := member.read(_BLOCK):
            size += len(block)
            if size > most:
                raise Unprocessable("The zip unpacks to more bytes than are allowed.")
            blocks.append(block)
    return b"".join(blocks)
