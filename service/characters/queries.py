from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from piccolo.columns.combination import WhereRaw

from service.callers import Caller
from service.characters.attributes import attribute_filter
from service.characters.filters import BY_NAME, FILTERS, RANK
from service.characters.schemas import (
    CharacterCreate,
    CharacterQuery,
    CharacterSummary,
    CharacterUpdate,
    pointing_to_sent_members,
)
from service.characters.scopes import (
    CHARACTER,
    SUMMARY,
    TEMPLATE_SHOWN,
    alive,
    listed_to,
    owned_by,
    visible_to,
)
from service.characters.store import (
    GET,
    GIVEN,
    GONE,
    change,
    create_row,
    document,
    lock_own,
    read_own,
)
from service.characters.tables import Character
from service.database.engine import DB
from service.database.failures import on_constraint
from service.database.prepared import Param, Prepared, json_object
from service.database.replicas import from_replica
from service.errors import Conflict, NotFound, Unprocessable, Violation
from service.etags import check_if_match
from service.identifiers import uuid7
from service.inputs import given
from service.lists.listing import Listing, Rows
from service.lists.search import GENERATED, ranked
from service.lists.statements import SortKey
from service.parameters import FieldsQuery
from service.schemas import EXTENSIONS_SIZE
from service.templates.rules.bounds import bounds_violations
from service.templates.rules.validator import Rules
from service.templates.versions.queries import get_rules, usable_version
from service.text.json_values import merge_patch, stored_size
from service.users.queries import profile_fields
from service.users.scopes import is_public

_VISIBLE_ONE = (Character.id == Param("id")) & visible_to(Param("user"))
_SOURCE = Prepared(
    lambda: Character.select(*(getattr(Character, name) for name in GIVEN)).where(
        Character.id == Param("id"), visible_to(Param("user"))
    )
)

CHARACTERS = Listing(
    Character,
    query=CharacterQuery,
    item=CharacterSummary,
    scopes={
        "mine": owned_by(Param("user")),
        "others": alive() & is_public(Character) & WhereRaw("{} IS DISTINCT FROM {}", Character.owner, Param("user")),
        "public": alive() & is_public(Character),
        "platform": alive() & is_public(Character) & Character.owner.is_null(),
        "owner": listed_to(Param("user"))
        & WhereRaw("{} = (SELECT id FROM users WHERE username = {})", Character.owner, Param("owner")),
        "owner_id": listed_to(Param("user")) & (Character.owner == Param("owner_id")),
    },
    summary=SUMMARY,
    fields=CHARACTER,
    expand={"owner": json_object(profile_fields(Character.owner)), "template": TEMPLATE_SHOWN},
    filters=FILTERS,
    open_filter=attribute_filter,
    sorts={
        "created_at": SortKey(Character.created_at, datetime),
        "updated_at": SortKey(Character.updated_at, datetime),
        "name": BY_NAME,
        "rank": RANK,
    },
    hidden=GENERATED,
)


@from_replica
async def list_characters(user: Caller, query: CharacterQuery) -> Rows:
    """The caller's own characters and all public ones, or those of one owner. A search is sorted by rank by default."""
    return await CHARACTERS.owned_rows(ranked(query), user.id)


async def create_character(user: Caller, data: CharacterCreate, portrait: str | None = None) -> Any:
    """``portrait`` is the name of a stored picture. Raises Unprocessable with every violation of the template, and
    NotFound and Conflict as ``usable_version`` does."""
    with pointing_to_sent_members(data):
        attributes, number, faults = await _begun(user, data)
        if faults:
            raise Unprocessable.of(faults)
        return await create_row(
            id=uuid7(),
            owner=user.id,
            forked_from=None,
            **msgspec.structs.asdict(data)
            | {"attributes": document(attributes), "extensions": document(data.extensions)}
            | {"template_version": number, "portrait": portrait},
        )


async def look_further_into_new(user: Caller, sound: Mapping[str, Any]) -> list[Violation]:
    """The violations of the ``sound`` members of a new character that has other faults."""
    with suppress(NotFound, Conflict):
        return (await _begun(user, CharacterCreate(**{"name": ""} | dict(sound))))[2]
    return []


async def copy_row(user: Caller, character_id: UUID) -> Any:
    """A private copy of a character that the caller may see, without its card. It keeps the template only if the
    caller may use that for new characters."""
    original = await get_columns(user, character_id)
    template, number = original["template"], original["template_version"]
    if template is not None:
        try:
            await usable_version(user, template, number)
        except (NotFound, Conflict):
            template = number = None
    return await create_row(
        **{name: original[name] for name in GIVEN}
        | {"id": uuid7(), "owner": user.id, "visibility": "private", "forked_from": character_id}
        | {"template": template, "template_version": number}
    )


async def _begun(user: Caller, data: CharacterCreate) -> tuple[dict[str, Any], int | None, list[Violation]]:
    """A new character's complete attributes, the number of its template version, and its violations."""
    faults = _extension_violations(data.extensions)
    template: Any = data.template  # an id, no object any more
    if template is not None:
        number, rules = await usable_version(user, template, data.template_version)
        attributes, broken = rules.check(data.attributes)
        return attributes, number, faults + broken
    if data.template_version is not None:
        faults.append(Violation("Needs a template.", pointer="/template_version"))
    return data.attributes, None, faults + bounds_violations(data.attributes)


async def get_character(user: Caller, character_id: UUID, query: FieldsQuery | None = None) -> Any:
    """Raises NotFound also if the caller may not see it."""
    if query is None or (query.fields is None and query.expand is None):
        row = await GET.one(character=character_id, member=user.id)
    else:
        row = await CHARACTERS.one(query, _VISIBLE_ONE).one(id=character_id, user=user.id)
    if row is None:
        raise NotFound
    return row


async def get_columns(user: Caller, character_id: UUID) -> Any:
    """The columns of a character. Raises NotFound also if the caller may not see it."""
    if row := await _SOURCE.one(id=character_id, user=user.id):
        return row
    raise NotFound


async def update_character(user: Caller, character_id: UUID, data: CharacterUpdate, if_match: str | None) -> Any:
    """Raises PreconditionFailed if ``if_match`` is stale, Unprocessable with every violation of the template.

    Two statements do: one reads without a lock, and one writes unless the character has changed since. Only then is it
    locked, in a transaction, whose four statements took a third more of the processor.
    """
    with pointing_to_sent_members(data):
        row = await read_own(user, character_id)
        if (changed := await _update(user, row, data, if_match, is_locked=False)) is None:
            async with DB.transaction():
                row = await lock_own(user, character_id)
                changed = await _update(user, row, data, if_match, is_locked=True)
        return changed


async def _update(user: Caller, row: Any, data: CharacterUpdate, if_match: str | None, *, is_locked: bool) -> Any:
    check_if_match(if_match, row["id"], row["version"])
    changes, faults = await _changed(user, row, data)
    if faults:
        raise Unprocessable.of(faults)
    with on_constraint(GONE):
        return await change(row, changes, is_locked=is_locked)


async def look_further_into_changes(user: Caller, character_id: UUID, sound: Mapping[str, Any]) -> list[Violation]:
    """The violations of the ``sound`` members of a change that has other faults."""
    with suppress(NotFound, Conflict, Unprocessable):
        row = await get_columns(user, character_id)
        return (await _changed(user, row, CharacterUpdate(**sound)))[1]
    return []


async def _changed(user: Caller, row: Any, data: CharacterUpdate) -> tuple[dict[str, Any], list[Violation]]:
    """The columns that change, and their violations."""
    changes = given(data, description="", tags=[], visibility="private", extensions={})
    faults = _extension_violations(changes.get("extensions", {}))
    if changes.keys() & {"attributes", "template", "template_version"}:
        attributes = merge_patch({"attributes": msgspec.json.decode(row["attributes"])}, changes).get("attributes", {})
        pin, rules = await _pin(user, row, changes)
        attributes, broken = rules.check(attributes) if rules else (attributes, bounds_violations(attributes))
        faults += broken
        changes |= pin | {"attributes": attributes}
    return changes, faults


async def delete_character(user: Caller, character_id: UUID, if_match: str | None) -> None:
    """Moves it into the trash. Raises PreconditionFailed if ``if_match`` is stale."""
    async with DB.transaction():
        row = await lock_own(user, character_id)
        check_if_match(if_match, character_id, row["version"])
        await change(row, {"deleted_at": datetime.now(UTC)})


async def _pin(user: Caller, row: Any, changes: Mapping[str, Any]) -> tuple[dict[str, Any], Rules | None]:
    """The new template and version if they change, and the rules that apply. The caller must be able to use a new
    template or version; an unchanged one is always accepted."""
    template = changes.get("template", row["template"])
    number = changes.get("template_version", row["template_version"] if template == row["template"] else None)
    if template is None:
        if changes.get("template_version") is not None:
            raise Unprocessable.of([Violation("Needs a template.", pointer="/template_version")])
        return {"template": None, "template_version": None}, None
    if (template, number) == (row["template"], row["template_version"]):
        return {}, await get_rules(template, number)
    for_new_character = template != row["template"]  # a retired template still rules those that began on it
    number, rules = await usable_version(user, template, number, for_new_character=for_new_character)
    return {"template": template, "template_version": number}, rules


def _extension_violations(extensions: Mapping[str, Any]) -> list[Violation]:
    if stored_size(extensions, document(extensions)) > EXTENSIONS_SIZE:
        return [Violation("Must be at most 256 KiB of JSON.", pointer="/extensions")]
    return []
