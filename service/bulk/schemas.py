from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.characters.schemas import CharacterRead, VersionNumber
from service.errors import Problem
from service.schemas import Input

MOST_OPERATIONS = 100


class Operation(Input, kw_only=True):
    """One change of one character: `create` takes a `body`, `update` an `id` and a `body`, `delete` an `id`."""

    action: Literal["create", "update", "delete"]
    id: UUID | UnsetType = UNSET
    version: Annotated[VersionNumber, Meta(description="As If-Match: the version that was read.")] | UnsetType = UNSET
    body: Annotated[dict[str, Any], Meta(description="A CharacterCreate or a CharacterUpdate.")] | UnsetType = UNSET


class Bulk(Input, kw_only=True):
    """Up to 100 operations, done in their order; `atomic`: all of them or none."""

    operations: Annotated[list[Operation], Meta(min_length=1, max_length=MOST_OPERATIONS)]
    atomic: bool = False


class Outcome(msgspec.Struct, kw_only=True):
    """What the single request would have answered: 201 or 200 with the character, 204, or a problem, with pointers into
    the operation's `body`."""

    status: int
    character: CharacterRead | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class Outcomes(msgspec.Struct, kw_only=True):
    """One for each operation, in their order."""

    items: list[Outcome]
