from uuid import UUID

import msgspec
from litestar import Controller
from litestar.params import FromPath

from service.callers import Caller
from service.characters.queries import get_columns
from service.templates.rules.prompts import FIELDS, render
from service.templates.versions.queries import find_version
from service.web.guards import READ_CHARACTERS, CurrentUser
from service.web.routes import get


class PromptRead(msgspec.Struct, kw_only=True):
    """The prompt with its placeholders filled in. `missing` lists the placeholders that have no value, `unknown` those
    that name neither a field nor an attribute."""

    prompt: str
    missing: list[str]
    unknown: list[str]


async def render_prompt(user: Caller, character_id: UUID) -> PromptRead:
    """The character's own prompt, else its template's if the caller may see it, else an empty one."""
    row = await get_columns(user, character_id)
    prompt, schema = row["prompt"], None
    if row["template"] is not None:
        reader = user.within("templates:read")
        version = await find_version(reader, row["template"], row["template_version"], pinned_by_owner=row["owner"])
        schema = msgspec.json.decode(version["attribute_schema"]) if version else None
        prompt = prompt or (version["prompt"] if version else None)
    values = msgspec.json.decode(row["attributes"]) | {name: row[name] for name in FIELDS}
    rendered = render(prompt or "", values, schema)
    return PromptRead(prompt=rendered.prompt, missing=rendered.missing, unknown=rendered.unknown)


class PromptController(Controller):
    tags = ("Characters",)

    @get("/characters/{character_id:uuid}/prompt", public=True, guards=[READ_CHARACTERS])
    async def render_prompt(self, user: CurrentUser, character_id: FromPath[UUID]) -> PromptRead:
        """Get a character's prompt for an image generator.

        The prompt is the character's own, or else that of its template. Its placeholders are filled in.
        """
        return await render_prompt(user, character_id)
