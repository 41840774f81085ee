from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

import msgspec

from service.characters.schemas import CharacterSummary
from service.schemas import AllTags, AnyTags, ListQuery, Style, Time


class TrashedCharacter(CharacterSummary, kw_only=True):
    """A deleted character. It is deleted permanently 30 days after `deleted_at`."""

    deleted_at: Time


class TrashQuery(ListQuery, kw_only=True, frozen=True):
    """Filters are joined by and."""

    sorts: ClassVar[Sequence[str]] = ("deleted_at",)

    style: Style | None = None
    template: UUID | None = None
    tags: AllTags | None = None
    tags_any: AnyTags | None = msgspec.field(name="tags.any", default=None)
