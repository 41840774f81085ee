"""PNG and APNG as containers of text: chunks are read and written, pixels are never decoded."""

import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from service.errors import Unprocessable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 20_000  # an APNG of 50 MiB in the 8 KiB pieces that libpng writes has fewer
LONGEST_KEYWORD = 79  # bytes, says the specification

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_AROUND = 12  # bytes of a chunk that are not its data: length, kind, checksum


class Texts(msgspec.Struct):
    """What the tEXt chunks say, by keyword; of two with one keyword the first."""

    values: dict[str, bytes] = {}
    notes: list[str] = []


class _Chunk(NamedTuple):
    kind: bytes
    data: memoryview
    is_sound: bool
    whole: memoryview


def read_texts(content: bytes) -> Texts:
    """Raises Unprocessable for more than MOST_CHUNKS chunks; a damaged or truncated file is read as far as it goes."""
    found = Texts()
    damaged = 0
    kind = b""
    for kind, data, is_sound, _ in _chunks(content):
        damaged += not is_sound
        if kind != b"tEXt":
            continue
        name = _keyword(data)
        if name in found.values:
            found.notes.append(f"Of several chunks '{name}' the first was read.")
        elif name:
            found.values[name] = bytes(data[len(name) + 1 :])
    if damaged:
        found.notes.append(f"{damaged} chunks of the PNG have a wrong checksum; they were read all the same.")
    if kind != b"IEND":
        found.notes.append("The PNG is cut short.")
    return found


def with_texts(content: bytes, texts: Mapping[str, bytes]) -> bytes:
    """A sound PNG with these tEXt chunks just before its end, instead of those that it had under their keywords; all
    other chunks as they are."""
    pieces: list[bytes | memoryview] = [SIGNATURE]
    for kind, data, _, whole in _chunks(content):
        if kind == b"tEXt" and _keyword(data) in texts:
            continue
        if kind == b"IEND":
            pieces += [_chunk(b"tEXt", keyword.encode("latin-1") + b"\0" + value) for keyword, value in texts.items()]
        pieces.append(whole)
    return b"".join(pieces)


def without_texts(content: bytes) -> bytes:
    """The picture alone."""
    return SIGNATURE + b"".join(chunk.whole for chunk in _chunks(content) if chunk.kind not in _TEXTS)


def _chunks(content: bytes) -> Iterator[_Chunk]:
    view = memoryview(content)
    at = len(SIGNATURE)
    for _ in range(MOST_CHUNKS):
        length = int.from_bytes(view[at : at + 4])
        end = at + _AROUND + length
        if at + _AROUND > len(view) or end > len(view):
            return
        kind = bytes(view[at + 4 : at + 8])
        is_sound = zlib.crc32(view[at + 4 : end - 4]) == int.from_bytes(view[end - 4 : end])
        yield _Chunk(kind, view[at + 8 : end - 4], is_sound, view[at:end])
        if kind == b"IEND":
            return
        at = end
    raise Unprocessable(f"The PNG has more than {MOST_CHUNKS} chunks.")


def _keyword(text: memoryview) -> str:
    """Empty where there is none."""
    keyword, separator, _ = bytes(text[: LONGEST_KEYWORD + 1]).partition(b"\0")
    return keyword.decode("latin-1") if separator else ""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
