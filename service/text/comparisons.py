"""The bounds of a comparison in a response: each difference has a pointer, which repeats the names that lead to it."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

import msgspec

MOST_DIFFERENCES = 1_000
MOST_POINTERS = 256 * 1024  # bytes; the last pointer may exceed it


class _Located(Protocol):
    @property
    def pointer(self) -> str: ...


Located = TypeVar("Located", bound=_Located)


def first_of(differences: Iterable[Located]) -> tuple[list[Located], bool]:
    """The first differences, and whether there are more."""
    found: list[Located] = []
    left = MOST_POINTERS
    for difference in differences:
        if len(found) == MOST_DIFFERENCES or left <= 0:
            return found, True
        found.append(difference)
        left -= len(msgspec.json.encode(difference.pointer))
    return found, False
