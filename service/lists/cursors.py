"""Keyset pages: a cursor holds the sort keys of a page's last row, signed for the one list that made it."""

import base64
import binascii
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from service.errors import BadRequest, Violation
from service.settings import settings

_SIGNATURE = 9  # bytes: 72 bits that nobody guesses


def encode_cursor(keys: Sequence[Any], shape: str) -> str:
    """An opaque cursor for ``keys``, valid only for lists of this ``shape`` (which rows, in which order)."""
    text = msgspec.json.encode(keys)
    return _written(_signature(text, shape) + text)


def decode_cursor(cursor: str, shape: str, types: Sequence[Any], parameter: str = "cursor") -> list[Any]:
    """The keys, one of each of ``types``. Raises BadRequest unless ``encode_cursor`` made it for the same shape."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        signature, text = raw[:_SIGNATURE], raw[_SIGNATURE:]
        if signature == _signature(text, shape) and _written(raw) == cursor:  # base64 has several spellings
            return list(msgspec.convert(msgspec.json.decode(text), tuple.__class_getitem__(tuple(types))))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        pass
    fault = Violation("Is not a cursor of this list; start again without it.", parameter=parameter)
    raise BadRequest("The cursor is not valid.", errors=[fault])


def _written(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _signature(text: bytes, shape: str) -> bytes:
    return blake2b(text + shape.encode(), key=settings.secret_key.encode()[:64], digest_size=_SIGNATURE).digest()
