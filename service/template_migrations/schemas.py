from typing import Literal
from uuid import UUID

import msgspec

from service.errors import Violation
from service.parameters import CursorValue, DryRunQuery, LimitValue


class Move(msgspec.Struct, kw_only=True):
    """The result for one character: `moved`, with the defaults that were added, or `invalid`, with the problems. An
    invalid character is unchanged."""

    id: UUID
    name: str
    before: int
    outcome: Literal["moved", "invalid"]
    filled: list[str]
    problems: list[Violation]


class Usage(msgspec.Struct, kw_only=True):
    """The number of characters on each version. Only characters that you may see are counted, at most 10,000."""

    characters: int
    versions: dict[int, int]


class MigrationQuery(DryRunQuery, kw_only=True, frozen=True):
    """The characters that this request migrates."""

    limit: LimitValue = 100
    cursor: CursorValue | None = None
