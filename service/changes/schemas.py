from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from service.characters.schemas import CharacterRead
from service.parameters import CURSOR_LENGTH, LimitValue, Query
from service.relationships.schemas import RelationshipRead
from service.templates.schemas import TemplateRead

ChangeKind = Literal["character", "template", "relationship"]


class Change(msgspec.Struct, kw_only=True):
    """A resource as it is now, as the member that its `kind` names. A deleted one has only its id and version. A
    relationship is deleted also while one of its characters is in the trash."""

    id: UUID
    version: int
    kind: ChangeKind
    deleted: bool
    character: CharacterRead | msgspec.UnsetType = msgspec.UNSET
    template: TemplateRead | msgspec.UnsetType = msgspec.UNSET
    relationship: RelationshipRead | msgspec.UnsetType = msgspec.UNSET


class ChangePage(msgspec.Struct, kw_only=True):
    """The next changes. A page has fewer items than `limit` if they are large; one without items means that the list is
    complete. `next_cursor` is always set: use it to continue from here, now or later."""

    items: list[Change]
    next_cursor: str


class ChangeQuery(Query, kw_only=True, frozen=True):
    """The position in the list of changes, and the size of the page."""

    kind: Annotated[
        tuple[ChangeKind, ...],
        Meta(min_length=1, max_length=3, description="The kinds to list. A cursor is valid for the same kinds only."),
    ] = ("character",)
    limit: LimitValue = 20
    after: (
        Annotated[str, Meta(max_length=CURSOR_LENGTH, description="The `next_cursor` of the previous response.")] | None
    ) = None
