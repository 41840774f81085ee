from uuid import UUID

import msgspec

from service.callers import Caller
from service.characters.queries import get_columns
from service.prompts.schemas import PromptRead
from service.templates.prompts import render
from service.versions.queries import find_version

_FIELDS = ("name", "description", "style", "tags")  # what a placeholder may name beside attributes


async def render_prompt(user: Caller, character_id: UUID) -> PromptRead:
    """The character's own prompt, or its template's where the caller may see that: else an empty one."""
    row = await get_columns(user, character_id)
    prompt, schema = row["prompt"], None
    if row["template"] is not None:
        version = await find_version(user, row["template"], row["template_version"], pinned_by_owner=row["owner"])
        schema = msgspec.json.decode(version["attribute_schema"]) if version else None
        prompt = prompt or (version["prompt"] if version else None)
    values = msgspec.json.decode(row["attributes"]) | {name: row[name] for name in _FIELDS}
    rendered = render(prompt or "", values, schema)
    return PromptRead(prompt=rendered.prompt, missing=rendered.missing, unknown=rendered.unknown)
