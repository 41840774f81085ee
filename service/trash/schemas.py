from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

import msgspec

from service.characters.schemas import CharacterSummary
from service.parameters import AllTags, AnyStyles, AnyTags, ListQuery
from service.schemas import Style, Time


class TrashedCharacter(CharacterSummary, kw_only=True):
    """A deleted character. It is deleted permanently 30 days after `deleted_at`."""

    deleted_at: Time


class TrashQuery(ListQuery, kw_only=True, frozen=True):
    """Filters of the trash. A character must match all of them."""

    whole: ClassVar[type[msgspec.Struct]] = TrashedCharacter
    sorts: ClassVar[Sequence[str]] = ("deleted_at",)

    style: Style | None = None
    style_in: AnyStyles | None = msgspec.field(name="style.in", default=None)
    template: UUID | None = None
    tags: AllTags | None = None
    tags_any: AnyTags | None = msgspec.field(name="tags.any", default=None)
