"""Masks tokens in text that comes from requests, before it is logged, audited or answered."""

import re
from urllib.parse import unquote

# A token of service/auth/secrets.py, also one that was cut off or mistyped: its prefix, and what follows up to the next
# slash. No username is as long. Fewer characters of a token leave enough of it unknown.
_SECRET = re.compile(r"(ch[skm]_)[^/]{29,}")
_MASK = r"\1***"
_ENCODINGS = 3  # percent-encodings around each other that are looked through
_MOST_ENCODED = 150  # encoded characters: a text with more is not decoded, which would take milliseconds


def masked(text: str) -> str:
    """``text`` without tokens, percent-encoded ones included."""
    plain = text
    for _ in range(_ENCODINGS):
        if not 0 < plain.count("%") <= _MOST_ENCODED:
            break
        plain = unquote(plain)
    return _SECRET.sub(_MASK, plain) if _SECRET.search(plain) else text
