from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.answers import check_if_match
from service.audit.queries import Action, record
from service.bodies import is_same, merge_patch
from service.callers import Caller
from service.characters.filters import FILTERS, RANK, filters_of
from service.characters.schemas import CharacterCreate, CharacterQuery, CharacterUpdate
from service.characters.tables import Character, Revision
from service.database import DB, on_constraint
from service.errors import BadRequest, Conflict, Forbidden, NotFound, Unprocessable, Violation
from service.identifiers import uuid7
from service.listing import Listing, Rows
from service.parameters import FieldsQuery
from service.pictures.queries import picture_fields
from service.prepared import NOW, Gathered, Param, Prepared, insert, json_object, utc, written
from service.scans import SortKey
from service.schemas import EXTENSIONS_SIZE, given
from service.templates.bounds import free_violations
from service.templates.rules import Rules
from service.users.queries import profile_fields
from service.versions.queries import rules_of, usable_version

SUMMARY: dict[str, Any] = {
    "id": Character.id,
    "version": Character.version,
    "name": Character.name,
    "style": Character.style,
    "tags": Character.tags,
    "visibility": Character.visibility,
    "owner": json_object({"id": Character.owner.id, "username": Character.owner.username}),
    "template": QueryString(
        "CASE WHEN {} IS NOT NULL THEN {} END",
        Character.template,
        json_object({"id": Character.template, "version": Character.template_version}),
    ),
    "portrait": picture_fields(Character.portrait, QueryString("'/v1/characters/' || {} || '/portrait'", Character.id)),
    "created_at": utc(Character.created_at),
    "updated_at": utc(Character.updated_at),
}
CHARACTER = SUMMARY | {
    "description": Character.description,
    "prompt": Character.prompt,
    "attributes": Character.attributes,
    "extensions": Character.extensions,
    "forked_from": Character.forked_from,
}
_TEMPLATE_SHOWN = QueryString(
    "CASE WHEN {} = {} OR {} <> 'private' THEN {} ELSE {} END",
    Character.template.owner,
    Param("user"),
    Character.template.visibility,
    json_object(
        {
            "id": Character.template,
            "version": Character.template_version,
            "name": Character.template.name,
            "description": Character.template.description,
            "style": Character.template.style,
            "tags": Character.template.tags,
            "newest_version": Character.template.newest_version,
        }
    ),
    SUMMARY["template"],
)
_GIVEN = (
    "id", "owner", "name", "description", "prompt", "style", "tags", "visibility", "attributes", "extensions",
    "template", "template_version", "forked_from", "portrait",
)  # fmt: skip
DOCUMENTS = ("attributes", "extensions")  # columns that hold JSON


def alive() -> Any:
    """Characters that are not in the trash."""
    return Character.deleted_at.is_null()


def visible_to(user: Any) -> Any:
    """Living characters that ``user`` (an id, or None) may see: all but other members' private ones."""
    return alive() & ((Character.owner == user) | (Character.visibility != "private"))


def listed_to(user: Any, of: Any = Character) -> Any:
    """Living characters that lists, counts and graphs show ``user``: an unlisted one is found by its id alone.
    ``of`` is the table or a foreign key to it."""
    return of.deleted_at.is_null() & ((of.owner == user) | is_public(of))


def is_public(of: Any) -> Any:
    """Written out: given as a parameter, a plan for any parameters could not use the indexes of what is public."""
    return WhereRaw("{} = 'public'", of.visibility)


def owned_by(user: Any) -> Any:
    return alive() & (Character.owner == user)


def read() -> Any:
    """The one way a character is rendered."""
    return Character.select(Character.id, Character.version, json_object(CHARACTER).as_alias("item"))


_VISIBLE_ONE = (Character.id == Param("id")) & visible_to(Param("user"))
_GET = Gathered(
    lambda character, member: read().where(Character.id == character, visible_to(member)),
    character="uuid",
    member="uuid",
)
_SOURCE = Prepared(
    lambda: Character.select(*(getattr(Character, name) for name in _GIVEN)).where(
        Character.id == Param("id"), visible_to(Param("user"))
    )
)
_CREATE = Prepared(lambda: written(insert(Character, *_GIVEN), read()))
_LOCK = Prepared(
    lambda: (
        Character.select(*(getattr(Character, name) for name in (*_GIVEN, "version", "deleted_at")))
        .where(Character.id == Param("id"), Character.owner == Param("user"), Character.ended.eq(False))
        .lock_rows("UPDATE")
    )
)


@cache
def _update(columns: frozenset[str]) -> Prepared:
    """Changes ``columns`` of one character, keeps what they held before as a revision, and renders the result."""
    changes = {getattr(Character, name): Param(name) for name in sorted(columns)}
    revision = insert(Revision, "replaced", id=Param("revision"), character=Param("id"), number=Param("version"))
    return Prepared(
        lambda: written(
            Character.update({**changes, Character.version: Param("version"), Character.updated_at: NOW}).where(
                Character.id == Param("id")
            ),
            read(),
            also=revision,
        )
    )


_GONE = {
    name: Conflict("What the character builds on was deleted meanwhile.")
    for name in (
        "characters_template_fkey",
        "pinned_to_a_known_version",
        "characters_forked_from_fkey",
        "characters_portrait_fkey",
    )
}

CHARACTERS = Listing(
    Character,
    scopes={
        "mine": owned_by(Param("user")),
        "others": alive() & is_public(Character) & WhereRaw("{} IS DISTINCT FROM {}", Character.owner, Param("user")),
        "owner": listed_to(Param("user"))
        & WhereRaw("{} = (SELECT id FROM users WHERE username = {})", Character.owner, Param("owner")),
    },
    summary=SUMMARY,
    fields=CHARACTER,
    expand={"owner": json_object(profile_fields(Character.owner)), "template": _TEMPLATE_SHOWN},
    filters=FILTERS,
    sorts={
        "created_at": SortKey(Character.created_at, datetime),
        "updated_at": SortKey(Character.updated_at, datetime),
        "name": SortKey(QueryString('lower({}) COLLATE "C"', Character.name), str, reads=(Character.name,)),
        "rank": RANK,
    },
    hidden=("search",),
)


async def list_characters(user: Caller, query: CharacterQuery) -> Rows:
    """Mine and everyone's public ones, or one owner's; ranked when there is a ``q`` and no other order is asked for."""
    if query.sort is None and query.q is not None:
        query = msgspec.structs.replace(query, sort=("-rank",))
    elif query.q is None and any(name.endswith("rank") for name in query.sort or ()):
        raise BadRequest(errors=[Violation("Only a search with q has ranks.", parameter="sort")])
    filters = filters_of(query)
    if query.owner is None:
        scopes = ["mine", "others"] if user.id else ["others"]
        return await CHARACTERS.rows(query, scopes=scopes, filters=filters, user=user.id)
    if query.owner == "me":
        return await CHARACTERS.rows(query, scopes=["mine"], filters=filters, user=user.id)
    return await CHARACTERS.rows(query, scopes=["owner"], filters=filters, user=user.id, owner=query.owner)


async def create_character(user: Caller, data: CharacterCreate, portrait: str | None = None) -> Any:
    """``portrait`` is the name of a stored picture. Raises Unprocessable with every violation of the template, NotFound
    and Conflict as ``usable_version`` does."""
    attributes, number, faults = await _begun(user, data)
    if faults:
        raise Unprocessable.of(faults)
    return await _create(
        id=uuid7(),
        owner=user.id,
        name=data.name,
        description=data.description,
        prompt=data.prompt,
        style=data.style,
        tags=data.tags,
        visibility=data.visibility,
        attributes=document(attributes),
        extensions=document(data.extensions),
        template=data.template,
        template_version=number,
        forked_from=None,
        portrait=portrait,
    )


async def look_further_into_new(user: Caller, sound: Mapping[str, Any]) -> list[Violation]:
    """What is wrong with the ``sound`` members of a new character that has other faults."""
    with suppress(NotFound, Conflict):
        return (await _begun(user, CharacterCreate(**{"name": ""} | dict(sound))))[2]
    return []


async def copy_character(user: Caller, character_id: UUID) -> Any:
    """A private copy of what the caller may see, pinned where they may begin characters, else ruled by nothing."""
    original = await get_columns(user, character_id)
    template, number = original["template"], original["template_version"]
    if template is not None:
        try:
            await usable_version(user, template, number)
        except (NotFound, Conflict):
            template = number = None
    return await _create(
        **{name: original[name] for name in _GIVEN}
        | {"id": uuid7(), "owner": user.id, "visibility": "private", "forked_from": character_id}
        | {"template": template, "template_version": number}
    )


async def _begun(user: Caller, data: CharacterCreate) -> tuple[dict[str, Any], int | None, list[Violation]]:
    """A new character's attributes, completed, the number of its version, and what is wrong with it."""
    faults = _extension_violations(data.extensions)
    if data.template is not None:
        number, rules = await usable_version(user, data.template, data.template_version)
        attributes = rules.complete(data.attributes)
        return attributes, number, faults + rules.violations(attributes)
    if data.template_version is not None:
        faults.append(Violation("Needs a template.", pointer="/template_version"))
    return data.attributes, None, faults + free_violations(data.attributes)


async def _create(**columns: Any) -> Any:
    with on_constraint(_GONE):
        return await _CREATE.one(**columns)


async def get_character(user: Caller, character_id: UUID, query: FieldsQuery | None = None) -> Any:
    """Raises NotFound also when the caller may not see it."""
    if query is None or (query.fields is None and query.expand is None):
        row = await _GET.one(character=character_id, member=user.id)
    else:
        row = await CHARACTERS.one(query, _VISIBLE_ONE).one(id=character_id, user=user.id)
    if row is None:
        raise NotFound
    return row


async def get_columns(user: Caller, character_id: UUID) -> Any:
    """What a character is made of, as columns. Raises NotFound also when the caller may not see it."""
    if row := await _SOURCE.one(id=character_id, user=user.id):
        return row
    raise NotFound


async def update_character(user: Caller, character_id: UUID, data: CharacterUpdate, if_match: str | None) -> Any:
    """Raises PreconditionFailed when ``if_match`` is stale, Unprocessable with every violation of the template."""
    async with DB.transaction():
        row = await lock_own(user, character_id)
        check_if_match(if_match, character_id, row["version"])
        changes, faults = await _changed(user, row, data)
        if faults:
            raise Unprocessable.of(faults)
        return await change(row, changes)


async def look_further_into_changes(user: Caller, character_id: UUID, sound: Mapping[str, Any]) -> list[Violation]:
    """What is wrong with the ``sound`` members of a change that has other faults."""
    with suppress(NotFound, Conflict, Unprocessable):
        row = await get_columns(user, character_id)
        if row["owner"] == user.id:
            return (await _changed(user, row, CharacterUpdate(**sound)))[1]
    return []


async def _changed(user: Caller, row: Any, data: CharacterUpdate) -> tuple[dict[str, Any], list[Violation]]:
    """The columns that change, and what is wrong with them."""
    changes = given(data, description="", tags=[], extensions={})
    faults = _extension_violations(changes.get("extensions", {}))
    if changes.keys() & {"attributes", "template", "template_version"}:
        attributes = merge_patch(msgspec.json.decode(row["attributes"]), changes.get("attributes", {}))
        pin, rules = await _pin(user, row, changes)
        attributes = rules.complete(attributes) if rules else attributes
        faults += rules.violations(attributes) if rules else free_violations(attributes)
        changes |= pin | {"attributes": attributes}
    return changes, faults


async def delete_character(user: Caller, character_id: UUID, if_match: str | None) -> None:
    """Into the trash. Raises PreconditionFailed when ``if_match`` is stale."""
    async with DB.transaction():
        row = await lock_own(user, character_id)
        check_if_match(if_match, character_id, row["version"])
        await change(row, {"deleted_at": datetime.now(UTC)})


async def lock_own(user: Caller, character_id: UUID, *, in_trash: bool = False) -> Any:
    """The caller's own character, locked until the transaction ends. Raises NotFound for what they may not see,
    Forbidden for what they see but do not own."""
    row = await _LOCK.one(id=character_id, user=user.id)
    if row is not None and (row["deleted_at"] is not None) == in_trash:
        return row
    if not in_trash and row is None and await _GET.one(character=character_id, member=user.id):
        raise Forbidden("Only its owner may change a character.")
    raise NotFound


async def change(row: Any, changes: Mapping[str, Any]) -> Any:
    """Writes what differs from the locked ``row`` as its next version; the answer's row. Nothing when nothing does."""
    wanted = {name: document(value) if name in DOCUMENTS else value for name, value in changes.items()}
    differing = {name: value for name, value in wanted.items() if not _same(name, row[name], value)}
    if not differing:
        return await _GET.one(character=row["id"], member=row["owner"])
    await _record_what_others_notice(row, differing)
    replaced = {name: msgspec.Raw(row[name].encode()) if name in DOCUMENTS else row[name] for name in differing}
    return await _write(row, replaced, differing)


async def touch(row: Any) -> None:
    """The next version of the locked ``row``, for a change of what lies beside it: its revision replaces nothing."""
    await _write(row, {}, {})


async def _write(row: Any, replaced: Mapping[str, Any], differing: Mapping[str, Any]) -> Any:
    return await _update(frozenset(differing)).one(
        id=row["id"],
        version=row["version"] + 1,
        revision=uuid7(),
        replaced=msgspec.json.encode(replaced).decode(),
        **differing,
    )


async def _record_what_others_notice(row: Any, differing: Mapping[str, Any]) -> None:
    if "visibility" in differing:
        seen = {"before": row["visibility"], "after": differing["visibility"]}
        await record("change_visibility", "character", row["id"], member=row["owner"], **seen)
    if "deleted_at" in differing:
        action: Action = "restore" if differing["deleted_at"] is None else "trash"
        await record(action, "character", row["id"], member=row["owner"])


def document(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _same(name: str, before: Any, after: Any) -> bool:
    if name in DOCUMENTS:
        return is_same(msgspec.json.decode(before), msgspec.json.decode(after))
    return bool(before == after)


async def _pin(user: Caller, row: Any, changes: Mapping[str, Any]) -> tuple[dict[str, Any], Rules | None]:
    """The template and version that rule from now on, and their rules. A new one must be usable by the caller; the one
    that rules already need not be any more."""
    template = changes.get("template", row["template"])
    number = changes.get("template_version", row["template_version"] if template == row["template"] else None)
    if template is None:
        if changes.get("template_version") is not None:
            raise Unprocessable.of([Violation("Needs a template.", pointer="/template_version")])
        return {"template": None, "template_version": None}, None
    if (template, number) == (row["template"], row["template_version"]):
        return {}, await rules_of(template, number)
    beginning = template != row["template"]  # a retired template still rules those that began on it
    number, rules = await usable_version(user, template, number, beginning=beginning)
    return {"template": template, "template_version": number}, rules


def _extension_violations(extensions: Mapping[str, Any]) -> list[Violation]:
    if len(document(extensions)) > EXTENSIONS_SIZE:
        return [Violation("Must be at most 256 KiB of JSON.", pointer="/extensions")]
    return []
