from typing import Annotated, ClassVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.inputs import Input, OrDefault
from service.parameters import DryRunQuery, ListQuery, Query
from service.relationships.tables import LABEL_LENGTH
from service.relationships.types import Category, TypeName
from service.schemas import Description, Time, line

Attitude = Annotated[int, Meta(ge=-100, le=100, description="From −100 (hatred) to 100 (devotion).")]
Label = Annotated[str, line(LABEL_LENGTH, "haunted by")]


class RelationshipTypeRead(msgspec.Struct, kw_only=True):
    name: str
    inverse: str
    symmetric: bool
    category: Category


class RelationshipCreate(Input, kw_only=True):
    """The character in the URL is the `type` of `target`. The type `custom` requires a `label`, and an `inverse_label`
    if the other side has a different label."""

    target: UUID
    type: TypeName
    label: Label | None = None
    inverse_label: Label | None = None
    description: OrDefault[Description] = ""
    attitude: Attitude | None = None
    returned_attitude: Attitude | None = None


class RelationshipUpdate(Input, kw_only=True):
    """The fields to change, as read from the side that `from` names. Only the type `custom` has labels. A null
    `inverse_label` makes it the same as `label`."""

    label: Label | None | UnsetType = UNSET
    inverse_label: Label | None | UnsetType = UNSET
    description: Description | None | UnsetType = UNSET
    attitude: Attitude | None | UnsetType = UNSET
    returned_attitude: Attitude | None | UnsetType = UNSET


class End(msgspec.Struct, kw_only=True):
    id: UUID
    name: str


class RelationshipRead(msgspec.Struct, kw_only=True):
    """`source` is the `type` of `target`. Read from the other side, the two are swapped and the type is the inverse.
    `attitude` is how the source feels about the target, `returned_attitude` how the target feels about the source. Only
    the type `custom` has a `label`, and the `inverse_label` that the other side reads as its `label`."""

    id: UUID
    version: int
    type: TypeName
    label: str | None
    inverse_label: str | None
    source: End
    target: End
    description: str
    attitude: Attitude | None
    returned_attitude: Attitude | None
    created_at: Time
    updated_at: Time


AnyTypes = Annotated[
    tuple[TypeName, ...], Meta(max_length=100, description="Only relationships of any of these types: `a,b`.")
]


class RelationshipQuery(ListQuery, kw_only=True, frozen=True):
    """Filters a character's relationships by type, as read from its side."""

    whole: ClassVar[type[msgspec.Struct]] = RelationshipRead

    type: TypeName | None = None
    type_in: AnyTypes | None = msgspec.field(name="type.in", default=None)


Side = Annotated[
    UUID,
    Meta(description="The character from whose side it is read. Default: the one in the URL of its creation."),
]


class SideQuery(Query, kw_only=True, frozen=True):
    """The character from whose side the relationship is read."""

    side: Side | None = msgspec.field(default=None, name="from")


class SideWriteQuery(DryRunQuery, kw_only=True, frozen=True):
    """The character from whose side the relationship is read and changed."""

    side: Side | None = msgspec.field(default=None, name="from")
