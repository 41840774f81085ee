"""Tokens: a prefix that scanners recognise, 256 random bits, and a checksum that tells a typo from a revoked token."""

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
    """Whether we could have made it; a look-up is spared when not."""
    return _SHAPE.fullmatch(token) is not None and _checksum(token[:-8]) == token[-8:]


def digest(token: str) -> bytes:
    """What is stored in its place. The token is random, so a plain SHA-256 cannot be guessed from."""
    return sha256(token.encode()).digest()


def _checksum(text: str) -> str:
    return f"{crc32(text.encode()):08x}"
