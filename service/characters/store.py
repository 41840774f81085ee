"""Writes of one character: lock it, change it, keep the revision."""

from collections.abc import Container, Iterable, Mapping
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from piccolo.columns import JSON, ForeignKey
from piccolo.query import Select
from piccolo.querystring import QueryString

from service.audit.actions import Action
from service.audit.queries import record
from service.callers import Caller
from service.characters.scopes import read, visible_to
from service.characters.tables import Character
from service.characters.thinning import thin_revisions
from service.database.coalesced import Coalesced
from service.database.failures import on_constraint
from service.database.prepared import NOW, Param, Prepared, insert, written
from service.errors import Conflict, Forbidden, NotFound, Violation
from service.etags import check_if_match
from service.identifiers import uuid7
from service.settings import settings
from service.text.json_values import is_same

WHOLE_EVERY = 20  # revisions; each of the others is read in at most as many steps

# Columns that a revision does not restore, with the reason. All other columns are content, which it restores.
NOT_CONTENT = {
    "id": "never changes",
    "owner": "never changes",
    "forked_from": "the original may be purged",
    "deleted_at": "the trash restores it",
    "ended": "a purged character stays purged",
    "owner_inactive": "is set by a trigger",
    "written_in": "is set by a trigger",
    "version": "only rises",
    "created_at": "never changes",
    "updated_at": "is set by each write",
}
_COLUMNS = {column._meta.name: column for column in Character._meta.columns}
CONTENT = tuple(name for name in _COLUMNS if name not in NOT_CONTENT)
DOCUMENTS = tuple(name for name, column in _COLUMNS.items() if isinstance(column, JSON))  # JSONB is one
GIVEN = ("id", "owner", "forked_from", *CONTENT)  # of a new row
GET = Coalesced(
    lambda character, member: read().where(Character.id == character, visible_to(member)),
    character="uuid",
    member="uuid",
)
_CREATE = Prepared(lambda: written(insert(Character, *GIVEN), read()))


def _own() -> Select[Any]:
    return Character.select(*(getattr(Character, name) for name in (*GIVEN, "version", "deleted_at"))).where(
        Character.id == Param("id"), Character.owner == Param("user"), Character.ended.eq(False)
    )


_OWN = Prepared(_own)
_LOCK = Prepared(lambda: _own().lock_rows("NO KEY UPDATE"))  # which does not wait for others who copy the character


_KEEP = QueryString(  # reads the changed row from ``written``
    "INSERT INTO revisions (id, character, number, replaced, unchanged, created_at)"
    " SELECT {}, id, version, {}, {}, now() FROM characters",
    Param("revision"),
    Param("replaced"),
    Param("unchanged"),
)


@cache
def _update(columns: frozenset[str]) -> Prepared:
    """Changes ``columns`` of one character, keeps what they held before as a revision, and renders the result. It does
    nothing if the character has another version than ``read``."""
    changes = {getattr(Character, name): Param(name) for name in sorted(columns)}
    return Prepared(
        lambda: written(
            Character.update({**changes, Character.version: Param("version"), Character.updated_at: NOW}).where(
                Character.id == Param("id"), Character.version == Param("read")
            ),
            read(),
            also=_KEEP,
        )
    )


def _gone(what: str, **place: str) -> Conflict:
    return Conflict(f"{what} was deleted during the request.", errors=[Violation("Was deleted.", **place)])


# Rows that another request may delete before this one is written
GONE = {
    "characters_template_fkey": _gone("Its template", pointer="/template"),
    "pinned_to_a_known_version": _gone("The version of its template", pointer="/template_version"),
    "characters_portrait_fkey": _gone("Its portrait", pointer="/file"),  # of an import
}
_GONE_FROM_COPY = dict.fromkeys(
    [*GONE, "characters_forked_from_fkey"],
    _gone("The original, or its template or portrait,", parameter="character_id"),
)


async def create_row(**columns: Any) -> Any:
    """Raises Conflict if another request has deleted what the character refers to."""
    with on_constraint(GONE if columns["forked_from"] is None else _GONE_FROM_COPY):
        return await _CREATE.one(**columns)


async def lock_own(user: Caller, character_id: UUID, *, in_trash: bool = False) -> Any:
    """The caller's own character, locked until the transaction ends. Raises NotFound if the caller may not see it, and
    Forbidden if the caller sees but does not own it."""
    return await _checked(await _LOCK.one(id=character_id, user=user.id), user, character_id, in_trash=in_trash)


async def read_own(user: Caller, character_id: UUID) -> Any:
    """The same, without a lock."""
    return await _checked(await _OWN.one(id=character_id, user=user.id), user, character_id, in_trash=False)


async def _checked(row: Any, user: Caller, character_id: UUID, *, in_trash: bool) -> Any:
    if row is not None and (row["deleted_at"] is not None) == in_trash:
        return row
    if not in_trash and row is None and await GET.one(character=character_id, member=user.id):
        raise Forbidden("Only its owner may change a character.")
    raise NotFound


async def check_own(user: Caller, character_id: UUID, if_match: str | None = None) -> None:
    """Raises what a change of the character would raise: before expensive work for it begins, and without waiting for
    others who change it."""
    check_if_match(if_match, character_id, (await read_own(user, character_id))["version"])


async def change(row: Any, changes: Mapping[str, Any], *, is_locked: bool = True) -> Any:
    """Writes the changes as the next version of ``row``, and returns the new row. It writes nothing if nothing differs.

    Without a lock, it returns None if the row has changed since, or if the change takes more than one statement.
    """
    values = {name: document(value) if name in DOCUMENTS else value for name, value in changes.items()}
    differing = {name: value for name, value in values.items() if not _same(name, row[name], value)}
    if not differing:
        return await GET.one(character=row["id"], member=row["owner"])
    if not is_locked and (row["version"] >= settings.revisions_kept or not _NOTICED.isdisjoint(differing)):
        return None
    await _record_what_others_notice(row, differing)
    return await _write(row, _kept(row, differing), differing)


def stored(name: str, kept: Any) -> Any:
    """The value of a column, from the JSON that a revision keeps of it."""
    column = _COLUMNS[name]
    if name in DOCUMENTS or kept is None:
        return kept
    while isinstance(column, ForeignKey):
        column = column._foreign_key_meta.resolved_target_column
    return msgspec.convert(kept, column.value_type, strict=False)


async def touch(row: Any) -> None:
    """Writes the next version of the locked ``row`` with the same columns, because related data changed.

    It writes nothing if ``change`` has written the next version already.
    """
    await _write(row, {}, {})


async def _write(row: Any, replaced: Mapping[str, Any], differing: Mapping[str, Any]) -> Any:
    number = row["version"] + 1
    written_row = await _update(frozenset(differing)).one(
        id=row["id"],
        read=row["version"],
        version=number,
        revision=uuid7(),
        replaced=document(replaced),
        unchanged=document(_kept(row, CONTENT, besides=replaced)) if number == next_whole(number) else None,
        **differing,
    )
    if number > settings.revisions_kept:
        await thin_revisions(row)
    return written_row


def next_whole(number: int) -> int:
    """The first revision from ``number`` on that keeps the whole content, not only what its change replaced."""
    return -(-number // WHOLE_EVERY) * WHOLE_EVERY


def _kept(row: Any, names: Iterable[str], *, besides: Container[str] = ()) -> dict[str, Any]:
    """Columns of ``row`` as a revision keeps them."""
    return {
        name: msgspec.Raw(row[name].encode()) if name in DOCUMENTS else row[name]
        for name in names
        if name not in besides
    }


_NOTICED = {"visibility", "deleted_at"}


async def _record_what_others_notice(row: Any, differing: Mapping[str, Any]) -> None:
    if "visibility" in differing:
        seen = {"before": row["visibility"], "after": differing["visibility"]}
        await record(Action.CHANGE_VISIBILITY, "character", row["id"], member=row["owner"], **seen)
    if "deleted_at" in differing:
        action = Action.RESTORE_CHARACTER if differing["deleted_at"] is None else Action.TRASH_CHARACTER
        await record(action, "character", row["id"], member=row["owner"])


def document(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()


def _same(name: str, before: Any, after: Any) -> bool:
    if name in DOCUMENTS:
        return is_same(msgspec.json.decode(before), msgspec.json.decode(after))
    return bool(before == after)
