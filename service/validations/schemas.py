from typing import Literal

import msgspec

from service.errors import Violation


class Validation(msgspec.Struct, kw_only=True):
    """How a character stands to the newest version of its template that the caller may see: `stale` satisfies it but
    is pinned to another, `invalid` does not satisfy it."""

    state: Literal["valid", "stale", "invalid"]
    version: int | None
    problems: list[Violation]
