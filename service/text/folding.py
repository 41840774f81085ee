"""The form in which tags are compared: NFC, and small letters for the capitals of Latin, Greek, Cyrillic, Armenian and
Georgian. It is the form of the SQL function ``tag_keys``, which does not depend on the database's locale."""

import string
import unicodedata
from collections.abc import Iterable

# The letters, as the migration that made ``tag_keys`` has them
_LETTERS = [
    *range(0xC0, 0x250), *range(0x370, 0x590), *range(0x10A0, 0x1100), *range(0x1E00, 0x2000),
    *range(0x2160, 0x2170), *range(0x24B6, 0x24D0), *range(0xFF21, 0xFF3B),
]  # fmt: skip
_SMALL = str.maketrans(
    {letter: letter.lower() for letter in map(chr, _LETTERS) if len(letter.lower()) == 1}
    | dict(zip(string.ascii_uppercase, string.ascii_lowercase, strict=True))
    | {"ς": "σ"}
)


def tag_key(tag: str) -> str:
    return unicodedata.normalize("NFC", tag).translate(_SMALL)


def tag_keys(tags: Iterable[str]) -> list[str]:
    return [tag_key(tag) for tag in tags]


def distinct_tags(tags: Iterable[str]) -> list[str]:
    """The tags as they are, without those that equal an earlier one."""
    distinct: dict[str, str] = {}
    for tag in tags:
        distinct.setdefault(tag_key(tag), tag)
    return [*distinct.values()]
