from typing import Literal
from uuid import UUID

import msgspec
from litestar import Controller
from litestar.params import FromPath

from service.callers import Caller
from service.characters.queries import get_columns
from service.errors import Violation
from service.templates.rules.bounds import bounds_violations
from service.templates.versions.queries import get_rules, newest_version
from service.web.guards import READ_CHARACTERS, CurrentUser
from service.web.routes import get


class Validation(msgspec.Struct, kw_only=True):
    """The result of checking a character against the newest version of its template that you may see. A `stale`
    character satisfies it but is on another version; an `invalid` one does not satisfy it."""

    state: Literal["valid", "stale", "invalid"]
    version: int | None
    problems: list[Violation]


async def validate_character(user: Caller, character_id: UUID) -> Validation:
    """Checks against the newest template version that the caller may see, or else the character's own version."""
    row = await get_columns(user, character_id)
    attributes = msgspec.json.decode(row["attributes"])
    if row["template"] is None:
        return Validation(state="valid", version=None, problems=bounds_violations(attributes))
    newest = await newest_version(user.within("templates:read"), row["template"]) or row["template_version"]
    rules = await get_rules(row["template"], newest)
    _, problems = rules.check(attributes)
    satisfied: Literal["valid", "stale"] = "valid" if newest == row["template_version"] else "stale"
    return Validation(state="invalid" if problems else satisfied, version=newest, problems=problems)


class ValidationController(Controller):
    tags = ("Characters",)

    @get("/characters/{character_id:uuid}/validation", public=True, guards=[READ_CHARACTERS])
    async def validate_character(self, user: CurrentUser, character_id: FromPath[UUID]) -> Validation:
        """Validate a character against the newest version of its template."""
        return await validate_character(user, character_id)
