from typing import Literal
from uuid import UUID

import msgspec

from service.errors import Violation
from service.schemas import CursorValue, DryRunQuery, LimitValue


class Move(msgspec.Struct, kw_only=True):
    """What became of one character: `moved`, with what the new defaults filled in; or `invalid`, with what would break,
    and left as it was."""

    id: UUID
    name: str
    before: int
    outcome: Literal["moved", "invalid"]
    filled: list[str]
    problems: list[Violation]


class Usage(msgspec.Struct, kw_only=True):
    """How many characters are pinned to each version, of those you may see."""

    characters: int
    versions: dict[int, int]


class MigrationQuery(DryRunQuery, kw_only=True, frozen=True):
    """Which of the characters are moved by this request."""

    limit: LimitValue = 100
    cursor: CursorValue | None = None
