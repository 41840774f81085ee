from typing import Any

import msgspec

from service.characters.schemas import CharacterRead
from service.schemas import Time


class RevisionSummary(msgspec.Struct, kw_only=True):
    """What one change touched; the creation touched everything, and says so with an empty list."""

    number: int
    created_at: Time
    changed: list[str]


class RevisionRead(RevisionSummary, kw_only=True):
    """The character as it was right after the change."""

    character: CharacterRead


class Difference(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A member that differs; without `before` it was added, without `after` removed."""

    pointer: str
    before: Any = msgspec.UNSET
    after: Any = msgspec.UNSET


class RevisionDifferences(msgspec.Struct, kw_only=True):
    before: int
    after: int
    differences: list[Difference]
