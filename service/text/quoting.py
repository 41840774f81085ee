"""Quotes in query strings. They keep a separator within one part; inside quotes, two quotation marks are one:
``"a, b","the ""old"" c"``."""

import re
from functools import cache
from typing import NamedTuple


class Part(NamedTuple):
    text: str
    is_quoted: bool


def split_quoted(value: str, separator: str) -> list[Part]:
    """The parts between the separators, without the spaces around them. Raises ValueError for a quote that stays open
    or ends within a part."""
    if '"' not in value:
        return [Part(part.strip(), False) for part in value.split(separator)]
    pattern, parts, position = _pattern(separator), [], 0
    while position <= len(value):
        if (part := pattern.match(value, position)) is None:
            raise ValueError(value)
        if part["quoted"] is None:
            parts.append(Part(part["plain"].strip(), False))
        else:
            parts.append(Part(part["quoted"].replace('""', '"'), True))
        position = part.end() + 1
    return parts


@cache
def _pattern(separator: str) -> re.Pattern[str]:
    other = re.escape(separator)
    return re.compile(rf"""\s*+(?:"(?P<quoted>(?:[^"]|"")*+)"\s*+|(?P<plain>[^{other}"][^{other}]*+|))(?={other}|\Z)""")
