from typing import Annotated, Any

import msgspec
from msgspec import Meta

from service.characters.schemas import CharacterRead
from service.parameters import Query
from service.schemas import Time, VersionNumber


class RevisionSummary(msgspec.Struct, kw_only=True):
    """A change, with the names of the fields that it changed. The list is empty for the creation."""

    number: int
    created_at: Time
    changed: list[str]


class RevisionRead(RevisionSummary, kw_only=True):
    """The character as it was after the change."""

    character: CharacterRead


class Difference(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A field that differs. An added field has no `before`, a removed one has no `after`."""

    pointer: str
    before: Any = msgspec.UNSET
    after: Any = msgspec.UNSET


class RevisionDifferences(msgspec.Struct, kw_only=True):
    """`truncated` is true if there are more differences: up to 1,000 are listed, and pointers of about 256 KiB."""

    before: int
    after: int
    differences: list[Difference]
    truncated: bool


class AgainstQuery(Query, kw_only=True, frozen=True):
    """The revision that another one is compared with."""

    against: (
        Annotated[
            VersionNumber, Meta(description="The revision to compare with. Default: the previous one that is kept.")
        ]
        | None
    ) = None
