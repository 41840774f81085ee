from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.schemas import Input, Time
from service.templates.rules.diff import Change
from service.templates.schemas import AttributeSchema, TemplatePrompt


class TemplateVersionCreate(Input, kw_only=True):
    """A draft, visible only to its owner until it is published. The default prompt is that of the newest version."""

    prompt: TemplatePrompt | UnsetType = UNSET
    attribute_schema: AttributeSchema


class TemplateVersionRead(msgspec.Struct, kw_only=True):
    template: UUID
    number: int
    state: Annotated[str, Meta(examples=["published"], description="`draft`, `published` or `deprecated`.")]
    prompt: str
    attribute_schema: dict[str, Any]
    created_at: Time
    published_at: Time | None
    deprecated_at: Time | None


class TemplateChanges(msgspec.Struct, kw_only=True):
    """The changes of version `after` against version `before`; version 1 adds all attributes."""

    before: int | None
    after: int
    changes: list[Change]
