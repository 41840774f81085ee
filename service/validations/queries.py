from typing import Literal
from uuid import UUID

import msgspec

from service.callers import Caller
from service.characters.queries import get_columns
from service.templates.bounds import free_violations
from service.validations.schemas import Validation
from service.versions.queries import newest_version, rules_of


async def validate_character(user: Caller, character_id: UUID) -> Validation:
    """Against the newest version that the caller may see, or else the one it is pinned to."""
    row = await get_columns(user, character_id)
    attributes = msgspec.json.decode(row["attributes"])
    if row["template"] is None:
        return Validation(state="valid", version=None, problems=free_violations(attributes))
    newest = await newest_version(user, row["template"]) or row["template_version"]
    rules = await rules_of(row["template"], newest)
    problems = rules.violations(rules.complete(attributes))
    satisfied: Literal["valid", "stale"] = "valid" if newest == row["template_version"] else "stale"
    return Validation(state="invalid" if problems else satisfied, version=newest, problems=problems)
