"""The bodies that clients send. Null for a member means its default; docs/api.md has the rule."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import NODEFAULT, UNSET

from service.text.folding import distinct_tags
from service.text.json_values import is_same

Member = TypeVar("Member")
if TYPE_CHECKING:
    OrDefault = Annotated[Member, "or null"]  # no code meets the null
else:
    OrDefault = Member | None


class Input(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A body that a client sends. Null for a member of type ``OrDefault`` is the default of the member."""

    def __post_init__(self) -> None:
        for name, field in _with_defaults(type(self)).items():
            if getattr(self, name) is None:
                setattr(self, name, field.default if field.default_factory is NODEFAULT else field.default_factory())


@cache
def _with_defaults(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """The fields that have a default of their own. In a change, UNSET says that a member was not sent: null differs."""
    fields = msgspec.structs.fields(kind)
    return {field.name: field for field in fields if not field.required and field.default not in (None, UNSET)}


class TaggedInput(Input, kw_only=True):
    """A body that may have tags. Of tags that differ only in case, the first is kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if tags := getattr(self, "tags", None):
            self.tags: Any = distinct_tags(tags)


class CopyCreate(Input):
    """An empty object: a copy takes everything from its original."""


def given(data: Input, **empty: Any) -> dict[str, Any]:
    """The fields that a PATCH sends. A null becomes the ``empty`` value of its field, if it has one: the value that a
    creation without the field gives."""
    fields = {name: getattr(data, name) for name in data.__struct_fields__}
    return {
        name: empty.get(name) if value is None else value
        for name, value in fields.items()
        if value is not msgspec.UNSET
    }


def differing(changes: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of columns whose values are not those of ``row``. Without any, nothing is to be written."""
    return {name: value for name, value in changes.items() if not is_same(row[name], value)}
