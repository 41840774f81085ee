"""Ids, and the masking of tokens in text from requests before it is logged, audited or answered.

Ids are UUIDv7 (RFC 9562), which sort by the time of their creation. PostgreSQL before 18 cannot create them.
"""

import os
import re
import time
from random import getrandbits
from urllib.parse import unquote
from uuid import UUID

# A token of service/auth/secrets.py, also one that was cut off or mistyped: its prefix, and what follows up to the next
# slash. No username is as long. Fewer characters of a token leave enough of it unknown. If slashes split it, the mask
# covers all segments from the prefix on; no username is as long with what may follow it in a path.
_SECRET = re.compile(r"(ch[skm]_)(?:[^/]{29,}|(?:/*+[^/\s]){36,}+)", re.IGNORECASE)
# These paths of the API and these pages of front ends end here, also in another spelling. Text that a client adds is
# the token of an e-mail, with or without its prefix.
_LINK = re.compile(
    r"(/(?:password[-_]resets?|email[-_]verifications?|reset[-_]password|verify[-_]email)[/;\\]++)[^\s?]++",
    re.IGNORECASE,
)
_MASK = r"\1***"
DAY = 24 * 60 * 60  # seconds
_ENCODINGS = 3  # percent-encodings around each other that are looked through
_MOST_ENCODED = 150  # encoded characters: a text with more is not decoded, which would take milliseconds


def uuid7() -> UUID:
    """A new id: 48 bits of milliseconds, 12 bits of a millisecond's fraction, 62 random bits."""
    return UUID(int=_now(int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1))


def first_id_since(seconds: float) -> UUID:
    """The lowest id that ``uuid7`` may have returned in the last ``seconds``. By it, the Home of the admin site and
    ``stats`` count new rows, with the index of the ids. Rows of seeds and synthetic data have older ids: they are never
    new."""
    return UUID(int=(int((time.time() - seconds) * 1000) << 80) | 7 << 76 | 2 << 62)


def request_id() -> str:
    """An id for a request, as it is written: it opens nothing, so its random bits come from a quicker source."""
    digits = f"{_now(getrandbits(62)):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def masked(text: str) -> str:
    """``text`` without tokens, percent-encoded ones included."""
    if "_" not in text and "%" not in text:  # each token has an underscore
        lowered = text.lower()
        if "password" not in lowered and "verif" not in lowered:
            return text  # most paths
    plain = text
    for _ in range(_ENCODINGS):
        if not 0 < plain.count("%") <= _MOST_ENCODED:
            break
        plain = unquote(plain)
    hidden = _LINK.sub(_MASK, _SECRET.sub(_MASK, plain))
    return text if hidden == plain else hidden


def _now(random: int) -> int:
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    return milliseconds << 80 | 0x7 << 76 | rest * 4096 // 1_000_000 << 64 | 0b10 << 62 | random
