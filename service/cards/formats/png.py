"""Reads and writes the text chunks of PNG and APNG files. Pixels are never decoded."""

import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from service.errors import Unprocessable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 20_000  # libpng writes chunks of 8 KiB: an APNG of 50 MiB has fewer
KEYWORD_LENGTH = 79  # bytes, by the PNG specification

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_OVERHEAD = 12  # bytes of a chunk beside its data: length, kind, checksum


class Texts(msgspec.Struct):
    """The texts of the tEXt chunks by keyword; of several chunks with the same keyword, the first."""

    values: dict[str, bytes] = {}
    notes: list[str] = []


class _Chunk(NamedTuple):
    kind: bytes
    data: memoryview
    is_intact: bool
    raw: memoryview


def read_texts(content: bytes) -> Texts:
    """Reads also a damaged or truncated file. Raises Unprocessable if there are more than MAX_CHUNKS chunks."""
    found = Texts()
    damaged = 0
    kind = b""
    for kind, data, is_intact, _ in _chunks(content):
        damaged += not is_intact
        if kind != b"tEXt":
            continue
        name = _keyword(data)
        if name in found.values:
            found.notes.append(f"The PNG has several chunks '{name}'; only the first was read.")
        elif name:
            found.values[name] = bytes(data[len(name) + 1 :])
    if damaged:
        found.notes.append(f"{damaged} chunks of the PNG have a wrong checksum; they were read anyway.")
    if kind != b"IEND":
        found.notes.append("The PNG is truncated.")
    return found


def with_texts(content: bytes, texts: Mapping[str, bytes]) -> bytes:
    """The PNG with ``texts`` by keyword as tEXt chunks at its end. They replace tEXt chunks with the same keywords.

    ``content`` must be intact.
    """
    pieces: list[bytes | memoryview] = [SIGNATURE]
    for kind, data, _, raw in _chunks(content):
        if kind == b"tEXt" and _keyword(data) in texts:
            continue
        if kind == b"IEND":
            pieces += [_chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value) for keyword, value in texts.items()]
        pieces.append(raw)
    return b"".join(pieces)


def without_texts(content: bytes) -> bytes:
    """The PNG without any text chunks."""
    return SIGNATURE + b"".join(chunk.raw for chunk in _chunks(content) if chunk.kind not in _TEXTS)


def _chunks(content: bytes) -> Iterator[_Chunk]:
    view = memoryview(content)
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        length = int.from_bytes(view[at : at + 4])
        end = at + _OVERHEAD + length
        if at + _OVERHEAD > len(view) or end > len(view):
            return
        kind = bytes(view[at + 4 : at + 8])
        is_intact = zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(view[end - 4 : end])
        yield _Chunk(kind, view[at + 8 : end - 4], is_intact, view[at:end])
        if kind == b"IEND":
            return
        at = end
    raise Unprocessable(f"The PNG has more than {MAX_CHUNKS} chunks.")


def _keyword(text: memoryview) -> str:
    """Empty if the chunk has no keyword."""
    keyword, separator, _ = bytes(text[: KEYWORD_LENGTH + 1]).partition(b"\0")
    return keyword.decode("latin-1") if separator else ""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
