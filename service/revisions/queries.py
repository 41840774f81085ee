"""A character's revisions. A revision stores the values that its change replaced. An earlier state is rebuilt from the
current one by putting back the values that later changes replaced, up to the next revision with the whole content.
Old revisions are thinned (see service/characters/thinning.py), so numbers may be missing.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import msgspec
from piccolo.query import Query
from piccolo.querystring import QueryString

from service.callers import Caller
from service.characters.scopes import owned_by, read
from service.characters.store import CONTENT, change, lock_own, next_whole, stored
from service.characters.tables import Character, Revision
from service.database.engine import DB
from service.database.failures import on_constraint
from service.database.prepared import Param, Prepared, json_object, sql, utc
from service.errors import Conflict, NotFound, Violation
from service.etags import check_if_match
from service.lists.cursors import decode_cursor
from service.lists.listing import Rows
from service.lists.sizes import within_page
from service.media.queries import get_past_picture
from service.parameters import PageQuery
from service.revisions.schemas import Difference, RevisionDifferences
from service.settings import settings
from service.text.comparisons import first_of
from service.text.json_values import is_same
from service.validation import pointer

_PIN = ("template", "template_version")
_PLAIN = tuple(name for name in CONTENT if name not in (*_PIN, "portrait"))  # same name and value in a CharacterRead
_GONE = {
    "characters_template_fkey": Conflict(
        "The template of that revision was deleted with its owner.",
        errors=[Violation("Uses a template that was deleted.", parameter="number")],
    )
}

_SUMMARY = {
    "number": Revision.number,
    "created_at": utc(Revision.created_at),
    "changed": QueryString(
        "(SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM jsonb_object_keys({}) AS name)", Revision.replaced
    ),
}
_CREATION = {
    "number": QueryString("1"),
    "created_at": utc(Character.created_at),
    "changed": QueryString("'[]'::json"),
}


def _page() -> QueryString:
    """Newest first. The creation, which is revision 1, has no row; it is read from the character."""
    changes: Query[Any, Any] = Revision.select(json_object(_SUMMARY).as_alias("item"), Revision.number).where(
        Revision.character == Param("character"), Revision.number < Param("before")
    )
    creation: Query[Any, Any] = Character.select(
        json_object(_CREATION).as_alias("item"), QueryString("1", alias="number")
    ).where(Character.id == Param("character"), QueryString("1 < {}", Param("before")))
    newest = Param("limit")
    rows = "({} ORDER BY number DESC LIMIT {}) UNION ALL ({}) LIMIT {}"
    return within_page(QueryString(rows, sql(changes), newest, sql(creation), newest), ("item", "number"))


_LIST = Prepared(_page)
_CURRENT = Prepared(
    lambda: read().columns(Character.portrait).where(Character.id == Param("id"), owned_by(Param("user")))
)
_ONE = Prepared(
    lambda: Revision.select(json_object(_SUMMARY).as_alias("item")).where(
        Revision.character == Param("character"), Revision.number == Param("number")
    )
)
_PREVIOUS = Prepared(
    lambda: QueryString(
        "SELECT coalesce(max(number), 1) FROM revisions WHERE character = {} AND number < {}",
        Param("character"),
        Param("number"),
    )
)
# For each column the first value after a revision: what the column held at that revision. PostgreSQL reads the steps,
# because each may be large.
_KEPT_AFTER = Prepared(
    lambda: QueryString(
        "SELECT DISTINCT ON (name) name, value FROM revisions"
        " CROSS JOIN LATERAL jsonb_each(coalesce(unchanged || replaced, replaced)) AS kept (name, value)"
        " WHERE character = {} AND number > {} AND number <= coalesce((SELECT min(number) FROM revisions"
        "  WHERE character = {} AND number >= {} AND unchanged IS NOT NULL), 2147483647) ORDER BY name, number",
        Param("character"),
        Param("number"),
        Param("character"),
        Param("whole"),  # the trigger raise_version writes revisions without it
    )
)


async def list_revisions(user: Caller, character_id: UUID, query: PageQuery) -> Rows:
    """Raises NotFound unless the caller owns the character."""
    await _get_current(user, character_id)
    name = f"revisions of {character_id}"
    before = decode_cursor(query.cursor, name, (int,))[0] if query.cursor else 2**31 - 1
    rows = await _LIST.all(character=character_id, before=before, limit=query.limit + 1)
    return Rows(rows, ("number",), name, None)


async def get_revision(user: Caller, character_id: UUID, number: int) -> dict[str, Any]:
    """A RevisionRead as decoded JSON. Raises NotFound if there is no such character or revision."""
    return (await _get_revision(user, character_id, number))[0]


async def _get_revision(user: Caller, character_id: UUID, number: int) -> tuple[dict[str, Any], str | None]:
    """As ``get_revision``, and the name of the portrait's file."""
    current = await _get_current(user, character_id)
    if number > current["version"]:
        raise NotFound
    character: dict[str, Any] = msgspec.json.decode(current["item"])
    kept = await kept_after(character_id, number)
    summary: dict[str, Any] = {"number": 1, "created_at": character["created_at"], "changed": []}
    if number > 1:  # after its values were read: without the revision, they are those of an earlier one
        summary = msgspec.json.decode(await _get_item(character_id, number))
    _put_back(character, kept)
    portrait = kept.get("portrait", current["portrait"])
    if portrait != current["portrait"]:
        character["portrait"] = await get_past_picture(portrait) if portrait else None
    return summary | {"character": character | {"version": number, "updated_at": summary["created_at"]}}, portrait


async def compare_revisions(user: Caller, character_id: UUID, before: int | None, after: int) -> RevisionDifferences:
    """``before`` None: the previous one that is kept. Raises NotFound if there is no such character or revision."""
    if before is None:
        before = await previous_number(character_id, after)
    old, old_portrait = await _get_revision(user, character_id, before)
    new, new_portrait = await _get_revision(user, character_id, after)
    compared = {*_PLAIN, "template"} | ({"portrait"} if old_portrait != new_portrait else set())
    old_members, new_members = ({name: each["character"][name] for name in compared} for each in (old, new))
    found, truncated = await asyncio.to_thread(first_differences, old_members, new_members)
    return RevisionDifferences(before=before, after=after, differences=found, truncated=truncated)


async def restore_revision(user: Caller, character_id: UUID, number: int, if_match: str | None) -> tuple[Any, bool]:
    """The row to render, and whether it has a new revision: not if the character has the content already. The
    character gets the content of the old revision, pinned to the same template version, but keeps its visibility:
    restoring a text must not publish it.

    Raises NotFound, PreconditionFailed, or Conflict when that template no longer exists."""
    async with DB.transaction():
        row = await lock_own(user, character_id)
        check_if_match(if_match, character_id, row["version"])
        if number > row["version"]:
            raise NotFound
        if number > 1:
            await _get_item(character_id, number)
        kept = await kept_after(character_id, number)
        content = {
            name: stored(name, value) for name, value in kept.items() if name in CONTENT and name != "visibility"
        }
        with on_constraint(_GONE):
            restored = await change(row, content)
        return restored, restored["version"] != row["version"]


async def _get_current(user: Caller, character_id: UUID) -> Any:
    if row := await _CURRENT.one(id=character_id, user=user.id):
        return row
    raise NotFound


async def _get_item(character_id: UUID, number: int) -> str:
    """The summary of a revision after the creation, as JSON. Raises NotFound if it was thinned."""
    if row := await _ONE.one(character=character_id, number=number):
        return row["item"]  # type: ignore[no-any-return] # asyncpg
    raise NotFound(f"This revision is not kept: a character has {settings.revisions_kept}, and older ones are thinned.")


async def previous_number(character_id: UUID, number: int) -> int:
    """The number of the previous revision that is kept."""
    return int(await _PREVIOUS.value(character=character_id, number=number))


async def kept_after(character_id: UUID, number: int) -> dict[str, Any]:
    """The columns that later changes replaced, with their values at revision ``number``."""
    rows = await _KEPT_AFTER.all(character=character_id, number=number, whole=next_whole(number + 1))
    return {row["name"]: msgspec.json.decode(row["value"]) for row in rows}


def _put_back(character: dict[str, Any], replaced: Mapping[str, Any]) -> None:
    """Sets the members of a CharacterRead to the values of replaced columns."""
    character |= {name: replaced[name] for name in _PLAIN if name in replaced}
    if replaced.keys() & {*_PIN}:
        pin = character["template"] or {"id": None, "version": None}
        template = replaced.get("template", pin["id"])
        version = replaced.get("template_version", pin["version"])
        character["template"] = {"id": template, "version": version} if template else None


def first_differences(before: Any, after: Any) -> tuple[list[Difference], bool]:
    """The differences that are listed, and whether there are more."""
    return first_of(_differences(before, after, ()))


def _differences(before: Any, after: Any, path: tuple[str, ...]) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(name, msgspec.UNSET), after.get(name, msgspec.UNSET), (*path, name))
    elif not is_same(before, after):
        yield Difference(pointer=pointer("", *path), before=before, after=after)
