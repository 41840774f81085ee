from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from service.inputs import Input
from service.schemas import Time
from service.templates.rules.diff import SchemaChange
from service.templates.schemas import AttributeSchema, TemplatePrompt


class TemplateVersionCreate(Input, kw_only=True):
    """A draft. Only its owner sees it until it is published. Without a prompt it gets that of the newest published
    version."""

    prompt: TemplatePrompt | None = None
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
    """The changes from version `before` to version `after`, one for each attribute. The first version adds every
    attribute. `truncated` is true if there are more changes: up to 1,000 are listed, and pointers of about 256 KiB."""

    before: int | None
    after: int
    changes: list[SchemaChange]
    truncated: bool
