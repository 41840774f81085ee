"""Reads the UserComment in the EXIF data of JPEG and WebP files, where some writers store a card."""

import struct
from collections.abc import Iterator

MAX_SEGMENTS = 2_000
MAX_FIELDS = 1_000  # in one directory

_JPEG, _EXIF = b"\xff\xd8\xff", b"Exif\0\0"
_USER_COMMENT, _SUB_DIRECTORY = 0x9286, 0x8769
_CHARSET = 8  # bytes in front of the text
_ORDERS = {b"II": "<", b"MM": ">"}


def is_jpeg(content: bytes) -> bool:
    return content.startswith(_JPEG)


def is_webp(content: bytes) -> bool:
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def read_user_comment(content: bytes) -> bytes | None:
    """The text as UTF-8; None if there is no UserComment. A damaged file is read as far as possible."""
    for block in _jpeg_blocks(content) if is_jpeg(content) else _webp_blocks(content):
        try:
            comment = _user_comment(block.removeprefix(_EXIF))
        except struct.error:
            continue
        if comment is not None:
            return comment
    return None


def _jpeg_blocks(content: bytes) -> Iterator[bytes]:
    at = 2
    for _ in range(MAX_SEGMENTS):
        if content[at : at + 1] != b"\xff" or content[at + 1 : at + 2] in (b"\xda", b"\xd9", b""):
            return
        end = at + 2 + max(2, int.from_bytes(content[at + 2 : at + 4]))
        if content[at + 1] == 0xE1 and content[at + 4 : at + 10] == _EXIF:
            yield content[at + 4 : end]
        at = end


def _webp_blocks(content: bytes) -> Iterator[bytes]:
    at = 12
    for _ in range(MAX_SEGMENTS):
        if at + 8 > len(content):
            return
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"EXIF":
            yield content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _user_comment(block: bytes) -> bytes | None:
    order = _ORDERS.get(block[:2])
    if order is None:
        return None
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    fields = _fields(block, order, start)
    if _SUB_DIRECTORY in fields:
        fields = _fields(block, order, fields[_SUB_DIRECTORY][1]) | fields
    if _USER_COMMENT not in fields:
        return None
    size, at = fields[_USER_COMMENT]
    charset, text = block[at : at + _CHARSET], block[at + _CHARSET : at + size]
    if charset.startswith(b"UNICODE"):
        text = text.decode("utf-16-le" if order == "<" else "utf-16-be", "replace").encode("utf-8", "replace")
    return text.rstrip(b"\0 ")


def _fields(block: bytes, order: str, at: int) -> dict[int, tuple[int, int]]:
    """The count and value of each field of a directory. The value is an offset for all that is read here."""
    (count,) = struct.unpack_from(f"{order}H", block, at)
    entries = (
        struct.unpack_from(f"{order}HHII", block, at + 2 + 12 * number) for number in range(min(count, MAX_FIELDS))
    )
    return {tag: (size, value) for tag, _, size, value in entries}
