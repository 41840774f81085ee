from uuid import UUID

import msgspec

from service.characters.schemas import CharacterRead


class CharacterChange(msgspec.Struct, kw_only=True):
    """A character as it is now; deleted, there is only its id and version to tell."""

    id: UUID
    version: int
    deleted: bool
    character: CharacterRead | msgspec.UnsetType = msgspec.UNSET


class ChangePage(msgspec.Struct, kw_only=True):
    """The next changes; fewer than `limit` are all so far. `next_cursor` is where to go on, now or later."""

    items: list[CharacterChange]
    next_cursor: str
