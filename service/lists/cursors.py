"""Cursors of keyset pagination: the sort keys of a page's last row, signed for one list."""

import base64
import binascii
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from service.errors import BadRequest, Violation
from service.parameters import NO_CURSOR
from service.settings import settings

_SIGNATURE_SIZE = 9  # bytes; service/parameters.py knows the form of a cursor


def encode_cursor(keys: Sequence[Any], shape: str) -> str:
    """An opaque cursor for ``keys``, valid only for the list (rows and order) that ``shape`` describes."""
    text = msgspec.json.encode(keys)
    return _base64(_signature(text, shape) + text)


def decode_cursor(cursor: str, shape: str, types: Sequence[Any], parameter: str = "cursor") -> list[Any]:
    """The keys, with these ``types``. Raises BadRequest unless ``encode_cursor`` made the cursor for this shape."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        signature, text = raw[:_SIGNATURE_SIZE], raw[_SIGNATURE_SIZE:]
        if signature == _signature(text, shape) and _base64(raw) == cursor:  # base64 text is not unique
            return list(msgspec.convert(msgspec.json.decode(text), tuple.__class_getitem__(tuple(types))))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        pass
    raise BadRequest("The cursor is not valid.", errors=[Violation(NO_CURSOR, parameter=parameter)])


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _signature(text: bytes, shape: str) -> bytes:
    return blake2b(text + shape.encode(), key=settings.secret_key.encode()[:64], digest_size=_SIGNATURE_SIZE).digest()
