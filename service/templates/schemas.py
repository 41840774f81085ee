from collections.abc import Mapping
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.inputs import OrDefault, TaggedInput
from service.parameters import ContentQuery
from service.schemas import Description, Name, Prompt, Style, Tags, Time, Visibility
from service.users.schemas import Owner, Profile

_EXAMPLE_SCHEMA = {
    "type": "object",
    "required": ["strength"],
    "properties": {"strength": {"type": "integer", "minimum": 1, "maximum": 20, "default": 10, "title": "Strength"}},
    "additionalProperties": False,
}

AttributeSchema = Annotated[
    dict[str, Any],
    Meta(
        title="AttributeSchema",  # by which generators of clients name a type that may be null
        description="A JSON Schema (2020-12), limited to the documented keywords.",
        examples=[_EXAMPLE_SCHEMA],
    ),
]
TemplatePrompt = Annotated[Prompt, Meta(examples=["{name}, a fighter of strength {strength}, in oil"])]


class TemplateCreate(TaggedInput, kw_only=True):
    """A new template with its first version, which is published immediately."""

    name: Name
    description: OrDefault[Description] = ""
    style: Style | None = None
    tags: OrDefault[Tags] = msgspec.field(default_factory=list)
    visibility: OrDefault[Visibility] = "private"
    prompt: OrDefault[TemplatePrompt] = ""
    attribute_schema: OrDefault[AttributeSchema] = msgspec.field(default_factory=lambda: {"type": "object"})


class TemplateUpdate(TaggedInput, kw_only=True):
    """The fields to change; null resets one to its default. Only a new version changes the prompt or the schema."""

    name: Name | UnsetType = UNSET
    description: Description | None | UnsetType = UNSET
    style: Style | None | UnsetType = UNSET
    tags: Tags | None | UnsetType = UNSET
    visibility: Visibility | None | UnsetType = UNSET


class TemplateSummary(msgspec.Struct, kw_only=True):
    """A template without its prompt and schema. `owner` is null for the platform's own templates."""

    id: UUID
    version: int
    name: str
    description: str
    style: Style | None
    tags: list[str]
    visibility: Visibility
    owner: Owner | None
    newest_version: int
    forked_from: UUID | None
    retired_at: Time | None
    created_at: Time
    updated_at: Time


class TemplateRead(TemplateSummary, kw_only=True):
    """A template with the prompt and the schema of its newest published version."""

    prompt: str
    attribute_schema: dict[str, Any]


class TemplateQuery(ContentQuery, kw_only=True, frozen=True):
    """Filters are joined by and."""

    whole: ClassVar[type[msgspec.Struct]] = TemplateSummary
    expanded: ClassVar[Mapping[str, Any]] = {"owner": Profile}
