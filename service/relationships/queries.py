from typing import Any
from uuid import UUID

from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.callers import Caller
from service.characters.queries import get_character
from service.characters.scopes import listed_to, owned_by
from service.characters.tables import Character
from service.database.engine import DB
from service.database.failures import on_constraint
from service.database.prepared import NOW, Param, Prepared, insert, json_object, sql
from service.database.replicas import from_replica
from service.errors import BadRequest, Conflict, Forbidden, NotFound, QuotaExceeded, Unprocessable, Violation
from service.etags import check_if_match
from service.identifiers import uuid7
from service.inputs import differing, given
from service.lists.listing import Listing, Rows
from service.lists.statements import Filter
from service.relationships.schemas import RelationshipCreate, RelationshipQuery, RelationshipRead, RelationshipUpdate
from service.relationships.scopes import RELATIONSHIP, by_end, visible_to
from service.relationships.tables import Relationship
from service.relationships.types import LABELS, TYPES, stored_labels
from service.settings import settings


def _not_own(*errors: Violation) -> NotFound:
    return NotFound("You have no such character.", errors=errors)


def _exists_already(*members: str) -> Conflict:
    same = "The two characters already have a relationship of this type."
    return Conflict(same, errors=[Violation(same, pointer=f"/{name}") for name in members])


_ONCE = "one_relationship_of_a_type_per_pair"  # and with the same labels
_CONSTRAINTS = {
    "relationships_source_fkey": _not_own(),  # purged by another transaction; the stored source may be either end
    "relationships_target_fkey": _not_own(),
}


def _read() -> Any:
    return Relationship.select(Relationship.id, Relationship.version, json_object(RELATIONSHIP).as_alias("item"))


_ENDS = (Relationship.source.as_alias("one"), Relationship.target.as_alias("other"))
_GET = Prepared(lambda: _read().columns(*_ENDS).where(Relationship.id == Param("id"), visible_to(Param("user"))))
_COLUMNS = (
    "id", "source", "target", "type", "inverse_type", "label", "inverse_label", "description", "source_attitude",
    "target_attitude", "created_from_target",
)  # fmt: skip


_CHANGED = (*LABELS, "description", "source_attitude", "target_attitude")  # by a PATCH


def _create() -> QueryString:
    """Locks the two characters, inserts the relationship and reads it back. A rename raises the version of the
    character's relationships, except those that are not committed yet; the lock makes it wait for this one."""
    ends = QueryString(
        "SELECT id, name FROM characters WHERE id IN ({}, {}) ORDER BY id FOR SHARE", Param("source"), Param("target")
    )
    created = sql(insert(Relationship, *_COLUMNS).returning(*Relationship.all_columns()))  # type: ignore[attr-defined] # an Insert
    return QueryString("WITH characters AS ({}), relationships AS ({}) {}", ends, created, sql(_read()))


_CREATE = Prepared(_create)


def _own() -> Any:
    return (
        Character.select(Character.id)
        .where(QueryString("{} = ANY({}::uuid[])", Character.id, Param("ids")), owned_by(Param("user")))
        .order_by(Character.id)
    )


_OWN = Prepared(_own)
_LOCK_OWN = Prepared(lambda: _own().lock_rows("NO KEY UPDATE"))
_MOST = Prepared(  # of the two characters, the more relationships; stops counting at the quota
    lambda: QueryString(
        "SELECT max(number) FROM unnest({}::uuid[]) AS one, LATERAL (SELECT count(*) AS number FROM"
        " (SELECT FROM relationships WHERE source = one UNION ALL"
        "  SELECT FROM relationships WHERE target = one LIMIT {}) AS found) AS counted",
        Param("ids"),
        Param("quota"),
    )
)


_TYPE = by_end(Relationship.type, Relationship.inverse_type)

RELATIONSHIPS = Listing(
    Relationship,
    query=RelationshipQuery,
    item=RelationshipRead,
    scopes={
        "as_source": (Relationship.source == Param("side")) & listed_to(Param("user"), Relationship.target),
        "as_target": (Relationship.target == Param("side")) & listed_to(Param("user"), Relationship.source),
    },
    summary=RELATIONSHIP,
    filters={
        "type": Filter(WhereRaw("{} = {}", _TYPE, Param("type"))),
        "type.in": Filter(WhereRaw("{} = ANY({}::text[])", _TYPE, Param("type_in"))),
    },
)


@from_replica
async def list_relationships(user: Caller, character_id: UUID, query: RelationshipQuery) -> Rows:
    """The relationships of which the character is source or target, as read from its side."""
    await get_character(user, character_id)
    return await RELATIONSHIPS.rows(query, scopes=["as_source", "as_target"], side=character_id, user=user.id)


async def create_relationship(user: Caller, character_id: UUID, data: RelationshipCreate) -> Any:
    """Raises NotFound unless both ends are the caller's own, Unprocessable when they are the same character, Conflict
    when the two already have a relationship of this type, in either direction, and QuotaExceeded."""
    async with DB.transaction():  # the rows are locked, so that requests at once do not pass the quota together
        own = {row["id"] for row in await _LOCK_OWN.all(ids=[character_id, data.target], user=user.id)}
        if character_id not in own:
            raise _not_own()
        columns = _columns(character_id, data)
        if data.target not in own:
            raise _not_own(Violation("Is none of your characters.", pointer="/target"))
        quota = settings.quota_relationships
        if await _MOST.value(ids=[character_id, data.target], quota=quota) >= quota:
            raise QuotaExceeded(f"A character may have {quota} relationships.")
        with on_constraint(_CONSTRAINTS | {_ONCE: _exists_already("label" if columns["label"] else "type")}):
            return await _CREATE.one(id=uuid7(), side=character_id, **columns)


async def check_own_end(user: Caller, character_id: UUID) -> None:
    """Raises NotFound unless the character is the caller's own."""
    if not await _OWN.all(ids=[character_id], user=user.id):
        raise _not_own()


def _columns(character_id: UUID, data: RelationshipCreate) -> dict[str, Any]:
    """Of the new relationship, in its stored direction. Raises Unprocessable."""
    label, inverse_label = stored_labels(data.type, data.label, data.inverse_label)
    if data.target == character_id:
        raise Unprocessable.of([Violation("Must be another character.", pointer="/target")])
    stored_type, is_inverse = TYPES[data.type]
    this_end = (character_id, label, data.attitude)
    other_end = (data.target, inverse_label, data.returned_attitude)
    # A symmetric relationship is stored from the smaller id, so that the unique index finds it from both sides
    is_symmetric = stored_type.symmetric and label == inverse_label
    is_swapped = character_id > data.target if is_symmetric else is_inverse
    (source, label, source_attitude), (target, inverse_label, target_attitude) = (
        (other_end, this_end) if is_swapped else (this_end, other_end)
    )
    return {
        "source": source,
        "target": target,
        "type": stored_type.name,
        "inverse_type": stored_type.inverse,
        "label": label,
        "inverse_label": inverse_label,
        "description": data.description,
        "source_attitude": source_attitude,
        "target_attitude": target_attitude,
        "created_from_target": is_swapped,
    }


async def get_relationship(user: Caller, relationship_id: UUID, side: UUID | None) -> Any:
    """``side`` is the id of the end that it is read from; None is the one from which it was created. Raises NotFound
    unless the caller may see both ends, and BadRequest if ``side`` is neither."""
    row = await _GET.one(id=relationship_id, user=user.id, side=side)
    if row is None:
        raise NotFound
    if side not in (None, row["one"], row["other"]):
        raise BadRequest.of([Violation("Must be one of the two characters of the relationship.", parameter="from")])
    return row


async def update_relationship(
    user: Caller, relationship_id: UUID, side: UUID | None, data: RelationshipUpdate, if_match: str | None
) -> Any:
    """Raises PreconditionFailed when ``if_match`` is stale, Unprocessable and Conflict for labels as
    ``create_relationship`` does, and BadRequest as ``get_relationship`` does."""
    changes = given(data, description="")
    async with DB.transaction():
        row = await lock_own(user, relationship_id)
        check_if_match(if_match, relationship_id, row["version"])
        from_target = row["created_from_target"] if side is None else side == row["target"]
        columns = {
            "description": "description",
            "label": "inverse_label" if from_target else "label",
            "inverse_label": "label" if from_target else "inverse_label",
            "attitude": "target_attitude" if from_target else "source_attitude",
            "returned_attitude": "source_attitude" if from_target else "target_attitude",
        }
        names = [name for name in LABELS if name in changes]
        if names:
            now = {name: row[columns[name]] or None for name in LABELS} | changes
            changes |= zip(LABELS, stored_labels(row["type"], now["label"], now["inverse_label"]), strict=True)
        values = differing({columns[name]: value for name, value in changes.items()}, row)
        if values:
            raised: dict[Any, Any] = {Relationship.version: Relationship.version + 1, Relationship.updated_at: NOW}
            with on_constraint({_ONCE: _exists_already(*names)}):
                await Relationship.update(values | raised).where(Relationship.id == relationship_id)
        return await get_relationship(user, relationship_id, side)


async def delete_relationship(user: Caller, relationship_id: UUID, if_match: str | None) -> None:
    """Raises PreconditionFailed when ``if_match`` is stale."""
    async with DB.transaction():
        row = await lock_own(user, relationship_id)
        check_if_match(if_match, relationship_id, row["version"])
        await Relationship.delete().where(Relationship.id == relationship_id)


async def lock_own(user: Caller, relationship_id: UUID) -> Any:
    """The caller's relationship, locked. Raises NotFound unless the caller may see it, Forbidden unless they own it."""
    return await read_own(user, relationship_id, lock=True)


async def read_own(user: Caller, relationship_id: UUID, *, lock: bool = False) -> Any:
    """The same, without a lock."""
    own = Relationship.select(
        *(getattr(Relationship, name) for name in ("version", "target", "type", "created_from_target", *_CHANGED)),
        Relationship.source.owner.as_alias("owner"),
    ).where(Relationship.id == relationship_id, visible_to(user.id))
    row: Any = await (own.lock_rows("UPDATE", of=(Relationship,)) if lock else own).first()
    if row is None:
        raise NotFound
    if row["owner"] != user.id:
        raise Forbidden("Only its owner may change a relationship.")
    return row
