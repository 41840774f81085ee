from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.characters.attribute_parameters import read_attribute_filters
from service.errors import ServiceError, Violation
from service.inputs import Input, OrDefault, TaggedInput
from service.media.schemas import Portrait
from service.parameters import ContentQuery, FieldsQuery
from service.schemas import LongDescription, Name, Prompt, Style, Tags, Time, VersionNumber, Visibility
from service.text.json_values import merge_patch
from service.users.schemas import Owner, Profile

# Generators of clients name a type that may be null by its title.
Attributes = Annotated[dict[str, Any], Meta(title="Attributes", examples=[{"strength": 12}])]
Extensions = Annotated[
    dict[str, Any],
    Meta(
        description="The client's own data, up to 256 KiB of JSON. A number counts with all its digits: 1e300 has 301.",
        examples=[{}],
    ),
]


class TemplateGiven(Input, kw_only=True):
    """A template as a character shows it. Only `id` and `version` count. Default version: the newest published one."""

    id: UUID
    version: VersionNumber | None = None
    name: str | None = None
    description: str | None = None
    style: Style | None = None
    tags: list[str] | None = None
    newest_version: VersionNumber | None = None


class PinnedInput(TaggedInput, kw_only=True, dict=True):
    """A body with a ``template`` and a ``template_version``. The template is an id once the body was read; a given
    version wins over the one in its object, and null is none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        template: Any = getattr(self, "template", None)
        number: Any = getattr(self, "template_version", None)
        at_number = "/template_version" if isinstance(number, int) else "/template"
        at_template = "/template" if template not in (None, UNSET) else at_number
        if isinstance(template, TemplateGiven):
            at_template = at_number = "/template/id"
            if isinstance(number, int):
                at_number = "/template_version"
            elif template.version is not None:
                at_number = "/template/version"
                self.template_version: Any = template.version
            self.template: Any = template.id
        self._places = {"/template": at_template, "/template_version": at_number}

    def as_sent(self, fault: Violation) -> Violation:
        """The fault, with a pointer to a member that was sent."""
        return msgspec.structs.replace(fault, pointer=self._places.get(fault.pointer or "", fault.pointer))


@contextmanager
def pointing_to_sent_members(data: PinnedInput) -> Iterator[None]:
    """The errors that the block raises point to what ``data`` was sent with."""
    try:
        yield
    except ServiceError as error:
        placed = copy(error)
        placed.errors = [data.as_sent(fault) for fault in error.errors]
        raise placed from None


class CharacterCreate(PinnedInput, kw_only=True):
    """A new character. The defaults of its template are added to its attributes, which must satisfy the template's
    schema; null within them is the same as to leave the attribute out. `template` is an id, or an object as reading
    returns it; `template_version` wins over its version."""

    name: Name
    description: OrDefault[LongDescription] = ""
    prompt: Prompt | None = None
    style: Style | None = None
    tags: OrDefault[Tags] = msgspec.field(default_factory=list)
    visibility: OrDefault[Visibility] = "private"
    attributes: OrDefault[Attributes] = msgspec.field(default_factory=dict)
    extensions: OrDefault[Annotated[Extensions, Meta(title="Extensions")]] = msgspec.field(default_factory=dict)
    template: UUID | TemplateGiven | None = None
    template_version: VersionNumber | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.attributes = merge_patch({}, self.attributes)  # so that null means what it means in a PATCH


class CharacterUpdate(PinnedInput, kw_only=True):
    """The fields to change. `attributes` is a merge patch (RFC 7396): null removes an attribute, or resets it to its
    default. Other fields are replaced; null resets one to its default. A new template or version applies immediately; a
    null template removes it, and a null version is the newest one.
    `template` is an id, or an object as reading returns it; `template_version` wins over the version in it."""

    name: Name | UnsetType = UNSET
    description: LongDescription | None | UnsetType = UNSET
    prompt: Prompt | None | UnsetType = UNSET
    style: Style | None | UnsetType = UNSET
    tags: Tags | None | UnsetType = UNSET
    visibility: Visibility | None | UnsetType = UNSET
    attributes: Attributes | None | UnsetType = UNSET
    extensions: Extensions | None | UnsetType = UNSET
    template: UUID | TemplateGiven | None | UnsetType = UNSET
    template_version: VersionNumber | None | UnsetType = UNSET


class Pin(msgspec.Struct, kw_only=True):
    """The template of a character, and the version that it uses."""

    id: UUID
    version: int


class ExpandedTemplate(Pin, kw_only=True):
    """The template of a character. `version` is the one that the character uses. A private template of another user has
    only `id` and `version`."""

    name: str
    description: str
    style: Style | None
    tags: list[str]
    newest_version: int


class CharacterSummary(msgspec.Struct, kw_only=True):
    """A character in a list."""

    id: UUID
    version: int
    name: str
    style: Style | None
    tags: list[str]
    visibility: Visibility
    owner: Owner
    template: Pin | None
    portrait: Portrait | None
    created_at: Time
    updated_at: Time


class CharacterRead(CharacterSummary, kw_only=True):
    description: str
    prompt: str | None
    attributes: dict[str, Any]
    extensions: dict[str, Any]
    forked_from: UUID | None


class CharacterFields(FieldsQuery, kw_only=True, frozen=True):
    """The fields of a character to return."""

    whole: ClassVar[type[msgspec.Struct]] = CharacterRead
    expanded: ClassVar[Mapping[str, Any]] = {"owner": Profile, "template": ExpandedTemplate}


class CharacterQuery(ContentQuery, kw_only=True, frozen=True):
    """Filters are joined by and. `attributes.<name>` compares an attribute; `.ne`, `.lt`, `.lte`, `.gt`, `.gte`, `.in`,
    `.contains` and `.exists` after it compare in other ways."""

    open_prefix: ClassVar[str] = "attributes."
    whole: ClassVar[type[msgspec.Struct]] = CharacterRead
    expanded: ClassVar[Mapping[str, Any]] = CharacterFields.expanded

    template: UUID | None = None
    template_version: VersionNumber | None = None

    @classmethod
    def read_open(cls, given: Mapping[str, str]) -> tuple[dict[str, Any], list[Violation]]:
        return read_attribute_filters(given)
