"""Tokens: a prefix that scanners recognise, 256 random bits, and a checksum that detects typos without a look-up."""

import re
import secrets
from binascii import crc32
from hashlib import sha256
from typing import Literal

Kind = Literal["session", "key", "mail"]

_PREFIX = {"session": "chs_", "key": "chk_", "mail": "chm_"}
_SHAPE = re.compile("ch[skm]_[A-Za-z0-9_-]{43}[0-9a-f]{8}")


def new_token(kind: Kind) -> str:
    body = _PREFIX[kind] + secrets.token_urlsafe(32)
    return body + _checksum(body)


def is_well_formed(token: str) -> bool:
    """Returns whether the prefix, length and checksum are right; if not, no look-up is needed."""
    return _SHAPE.fullmatch(token) is not None and _checksum(token[:-8]) == token[-8:]


def digest(token: str) -> bytes:
    """The stored form of a token. Tokens have 256 random bits, so plain SHA-256 is enough."""
    return sha256(token.encode()).digest()


def _checksum(text: str) -> str:
    return f"{crc32(text.encode()):08x}"
