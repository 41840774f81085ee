from uuid import UUID

import msgspec

from service.characters.schemas import CharacterRead


class CharacterChange(msgspec.Struct, kw_only=True):
    """A character as it is now. One that was deleted has only its id and version."""

    id: UUID
    version: int
    deleted: bool
    character: CharacterRead | msgspec.UnsetType = msgspec.UNSET


class ChangePage(msgspec.Struct, kw_only=True):
    """The next changes. Fewer than `limit` are all so far. `next_cursor` continues from here, now or later."""

    items: list[CharacterChange]
    next_cursor: str
