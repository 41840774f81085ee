"""Reads and writes the texts in PNG and APNG files: tEXt, zTXt and iTXt chunks. Pixels are never decoded."""

import base64
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

import msgspec

from service.errors import Unprocessable

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 20_000  # libpng writes chunks of 8 KiB: an APNG of 50 MiB has fewer
KEYWORD_LENGTH = 79  # bytes, by the PNG specification
MAX_INFLATED = 16 * 1024 * 1024  # bytes of all compressed texts of a file together
PLACEHOLDER = b"nOPo"  # private, ancillary, safe to copy: only this service writes it, and other readers skip it

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# The chunks of pixels and frames. All others are metadata.
_PIXELS = {
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI",
    b"bKGD", b"pHYs", b"acTL", b"fcTL", b"fdAT",
}  # fmt: skip
_PIECE = 768 * 1024  # bytes; a multiple of 3, so that pieces in base64 can be joined
_MAX_RATIO = 1032  # inflated bytes to compressed ones, by the format
_OVERHEAD = 12  # bytes of a chunk beside its data: length, kind, checksum


class Texts(msgspec.Struct):
    """The texts by keyword; of several chunks with the same keyword, the first. ``is_placeholder``: the picture stands
    for a portrait that does not exist."""

    values: dict[str, bytes] = {}
    is_placeholder: bool = False
    notes: list[str] = []


class _Chunk(NamedTuple):
    kind: bytes
    data: memoryview
    is_intact: bool
    raw: memoryview


class PngWriter:
    """Writes ``picture`` to ``target`` with texts in front of its pixels: one reader takes all between the keyword and
    the next IDAT or IEND for the card. Texts that the picture has are left out. ``picture`` must be intact."""

    def __init__(self, target: IO[bytes], picture: bytes) -> None:
        chunks = [chunk for chunk in _chunks(picture) if chunk.kind not in _TEXTS]
        first = next(number for number, chunk in enumerate(chunks) if chunk.kind in (b"IDAT", b"IEND"))
        self._target, self._pixels = target, chunks[first:]
        target.write(SIGNATURE)
        target.writelines(chunk.raw for chunk in chunks[:first])

    def add(self, keyword: str, value: bytes) -> None:
        """Adds the value in base64, in pieces: it may have 64 MiB."""
        start = b"tEXt" + keyword.encode("latin-1") + b"\0"
        length = len(start) - 4 + (len(value) + 2) // 3 * 4
        self._target.write(length.to_bytes(4) + start)
        checksum = zlib.crc32(start)
        for at in range(0, len(value), _PIECE):
            piece = base64.b64encode(value[at : at + _PIECE])
            self._target.write(piece)
            checksum = zlib.crc32(piece, checksum)
        self._target.write(checksum.to_bytes(4))

    def end(self, *, is_placeholder: bool) -> None:
        if is_placeholder:
            self._target.write(_chunk(PLACEHOLDER, b""))
        self._target.writelines(chunk.raw for chunk in self._pixels)


def is_png(content: bytes) -> bool:
    return content.startswith(SIGNATURE)


def read_texts(content: bytes, prefixes: tuple[str, ...] = ("",)) -> Texts:
    """The texts whose keywords begin with one of ``prefixes``. Reads also a damaged or truncated file.

    Raises Unprocessable if there are more than MAX_CHUNKS chunks or MAX_INFLATED bytes.
    """
    found = Texts()
    damaged = 0
    left = MAX_INFLATED
    kind = b""
    for kind, data, is_intact, _ in _chunks(content):
        damaged += not is_intact
        found.is_placeholder |= kind == PLACEHOLDER
        name = _keyword(data) if kind in _TEXTS else ""
        if not name.startswith(prefixes):
            continue
        if name in found.values:
            found.notes.append(f"The PNG has several chunks '{name}'; only the first was read.")
        elif name:
            text = bytes(data[len(name) + 1 :])
            value, inflated = _text(kind, text, left)
            left -= inflated
            if value is None:
                found.notes.append(f"The PNG's chunk '{name}' could not be decompressed; it was ignored.")
            else:
                found.values[name] = value
    if damaged:
        found.notes.append(f"{damaged} chunks of the PNG have a wrong checksum; they were read anyway.")
    if kind != b"IEND":
        found.notes.append("The PNG is truncated.")
    return found


def without_metadata(content: bytes) -> bytes:
    """The PNG with its pixels, colors and animation byte for byte, and nothing else. A missing end is added."""
    kept = [chunk for chunk in _chunks(content) if chunk.kind in _PIXELS]
    end = b"" if kept and kept[-1].kind == b"IEND" else _chunk(b"IEND", b"")
    return SIGNATURE + b"".join(chunk.raw for chunk in kept) + end


def _text(kind: bytes, data: bytes, most: int) -> tuple[bytes | None, int]:
    """The value of a text chunk after its keyword, None if it is compressed and damaged; and the bytes that were
    inflated for it."""
    if kind == b"tEXt":
        return data, 0
    if kind == b"zTXt":
        return _inflated(data[1:], most)
    _, _, text = data[2:].partition(b"\0")[2].partition(b"\0")  # behind the language and the translated keyword
    return _inflated(text, most) if data[:1] == b"\1" else (text, 0)


def _inflated(data: bytes, most: int) -> tuple[bytes | None, int]:
    """Decompresses ``most`` bytes and one more: zlib takes 0 for no limit. Raises Unprocessable above ``most``.

    Damaged data counts, too: a file may have thousands of such chunks."""
    stream = zlib.decompressobj()
    try:
        value = stream.decompress(data, most + 1)
    except zlib.error:  # it does not say how far it came
        return None, min(most, _MAX_RATIO * len(data))
    if len(value) > most:
        raise Unprocessable("The compressed texts of the PNG have more bytes than are allowed.")
    return value if stream.eof else None, len(value)


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
