from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from service.characters.schemas import CharacterRead
from service.schemas import CURSOR_LENGTH, LimitValue, Query


class CharacterChange(msgspec.Struct, kw_only=True):
    """A character as it is now. A deleted character has only its id and version."""

    id: UUID
    version: int
    deleted: bool
    character: CharacterRead | msgspec.UnsetType = msgspec.UNSET


class ChangePage(msgspec.Struct, kw_only=True):
    """The next changes. A page has fewer items than `limit` if they are large; one without items means that the list is
    complete. `next_cursor` is always set: use it to continue from here, now or later."""

    items: list[CharacterChange]
    next_cursor: str


class ChangeQuery(Query, kw_only=True, frozen=True):
    """The position in the list of changes, and the size of the page."""

    limit: LimitValue = 20
    after: (
        Annotated[str, Meta(max_length=CURSOR_LENGTH, description="The `next_cursor` of the previous response.")] | None
    ) = None
