"""Imports files as characters. Each file succeeds or fails on its own."""

import asyncio
from collections.abc import Awaitable, Callable
from io import BytesIO
from tempfile import TemporaryFile
from typing import Any
from uuid import UUID

import msgspec

from service.callers import Caller
from service.cards.formats import png
from service.cards.formats.assets import MAX_NOTES, CardFile
from service.cards.formats.fields import CharacterFields, character_fields, check_bounds
from service.cards.formats.reader import read_file
from service.cards.imports.schemas import OnDuplicate
from service.cards.queries import ExportedCard, card_text, get_written_card
from service.cards.store import ImportedCard, create_card, replace_card
from service.cards.tables import Card
from service.characters.queries import create_character
from service.characters.schemas import CharacterCreate
from service.characters.scopes import SUMMARY
from service.characters.store import change, lock_own, touch
from service.characters.tables import Character
from service.database.engine import DB
from service.database.failures import to_service_error, without_frames
from service.database.held import check_no_connection
from service.database.prepared import Param, Prepared, json_object
from service.errors import Conflict, ServiceError, TooLarge, Unprocessable, UnsupportedMediaType, Violation
from service.etags import check_if_match
from service.limits.turns import Turns
from service.media.queries import NewFile, content_name, refer_to, refer_to_all, store_file, store_files, store_picture
from service.media.schemas import MAX_UPLOAD

COST = 10  # writes that each imported file counts as
FILES_OF_A_WRITE = 25  # files within an imported file that count as one write more
MAX_TOGETHER = 32 * 1024 * 1024  # bytes of the cards of one import, which are in memory together
_ASSET_BYTES = 1024  # what one asset counts
_TOO_MANY = "Too many cards are being imported."
# Two files are in memory: one has up to 50 MiB, and a CHARX can unpack to 64 MiB. They may wait until their pictures
# are clean. JSON and YAML have none, and so they have turns of their own
_TURNS = Turns(2, waiting=64, waiting_of_caller=16, refusal=_TOO_MANY)
_TURNS_OF_TEXTS = Turns(1, waiting=64, waiting_of_caller=16, refusal=_TOO_MANY)
_NO_TEXTS = (b"\x89PNG", b"RIFF", b"\xff\xd8", b"PK")  # as which pictures and zips begin
START = 4  # bytes by which ``store_card`` knows them
_SUMMARY = Prepared(lambda: Character.select(json_object(SUMMARY).as_alias("item")).where(Character.id == Param("id")))

_DUPLICATE = Prepared(  # the newest
    lambda: (
        Card.select(Card.character)
        .where(
            Card.content == Param("content"),
            Card.character.owner == Param("user"),
            Card.character.deleted_at.is_null(),
        )
        .order_by(Card.id, ascending=False)
        .limit(1)
    )
)


class NewCard(msgspec.Struct, kw_only=True):
    """A card whose files are stored, before its character exists. ``size`` is what it counts, in bytes."""

    card: ImportedCard
    size: int
    fields: CharacterFields
    portrait: NewFile | None
    assets: dict[str, NewFile]
    notes: list[str]

    @property
    def cost_of_files(self) -> int:
        return len(self.assets) // FILES_OF_A_WRITE


class Imported(msgspec.Struct):
    """``character`` is its summary as JSON; ``notes`` say what was corrected. ``duplicate_of`` is the
    caller's character that the same file made or updated before."""

    status: int
    character: str
    notes: list[str]
    duplicate_of: UUID | None = None


class _MadeMeanwhile(Exception):
    """Another request has imported the same file."""


async def store_card(
    name: str, start: bytes, read: Callable[[], Awaitable[bytes]], *, room: int, dry_run: bool
) -> NewCard | ServiceError:
    """Reads a card and stores its files, outside of transactions. Returns the error if that fails. The file begins with
    ``start``; ``read`` gives all of it, and is called when there is memory for it. ``room`` is the most bytes that the
    card's text may have. Raises errors that the file did not cause."""
    check_no_connection("Reading a card")
    try:
        turns = _TURNS if start.startswith(_NO_TEXTS) else _TURNS_OF_TEXTS
        async with turns.turn():
            return await _store(name, await read(), room, dry_run)
    except Exception as error:
        problem = to_service_error(error)
        if problem.status == 500:
            raise
        return without_frames(problem)


async def import_card(user: Caller, card: NewCard | ServiceError, on_duplicate: OnDuplicate) -> Imported | ServiceError:
    """Creates the character, or does what ``on_duplicate`` says if the caller has one of the same file. Returns the
    error if the card cannot be imported; nothing of it is stored then.

    Raises errors that the file did not cause.
    """
    if isinstance(card, ServiceError):
        if _undoes_all(card):
            raise card
        return card
    try:
        return await _import(user, card, on_duplicate)
    except Exception as error:
        problem = to_service_error(error)
        if problem.status in (401, 500) or _undoes_all(problem):  # 401: the caller was purged meanwhile
            raise
        return without_frames(problem)


async def replace_by_file(user: Caller, character_id: UUID, card: NewCard, if_match: str | None) -> ExportedCard:
    """Replaces the card, the fields that come from it, and the portrait if the card has one, as one new version.

    Raises NotFound, Forbidden, and PreconditionFailed if ``if_match`` is stale.
    """
    async with DB.transaction():
        row = await lock_own(user, character_id)
        check_if_match(if_match, character_id, row["version"])
        await _replace(row, card)
    return await get_written_card(user, character_id)


def _undoes_all(problem: ServiceError) -> bool:
    """In a transaction of the request, any failure of the service undoes all files: the request can be repeated."""
    return problem.status >= 500 and DB.transaction_exists()


async def _import(user: Caller, card: NewCard, on_duplicate: OnDuplicate) -> Imported:
    # The inner transaction is a savepoint: the outer one may be that of the whole request.
    async with DB.transaction() as transaction:
        duplicate = await _find_duplicate(user, card)
        if duplicate is None or on_duplicate == "keep":
            try:
                async with transaction.connection.transaction():
                    return await _create(user, card, duplicate, on_duplicate)
            except _MadeMeanwhile:
                duplicate = await _find_duplicate(user, card)
        if duplicate is None:
            gone = "The character of the same file was deleted during the request."
            raise Conflict(gone, errors=[Violation("Its character was deleted.", pointer="/file")])
        async with transaction.connection.transaction():
            if on_duplicate == "update":
                await _replace(await lock_own(user, duplicate), card)
            notes = card.notes if on_duplicate == "update" else []
            return Imported(200, await _SUMMARY.value(id=duplicate), notes, duplicate)


async def _create(user: Caller, card: NewCard, duplicate: UUID | None, on_duplicate: OnDuplicate) -> Imported:
    """Raises _MadeMeanwhile if there is a duplicate after all. To create a character locks the usage of its owner, so
    other requests of the caller have committed theirs or wait."""
    data = CharacterCreate(
        name=card.fields.name,
        description=card.fields.description,
        tags=card.fields.tags,
        extensions=card.fields.extensions,
        visibility="private",
    )
    row = await create_character(user, data, await refer_to(card.portrait) if card.portrait else None)
    if on_duplicate != "keep" and await _find_duplicate(user, card):
        raise _MadeMeanwhile
    await create_card(row["id"], card.card, await _asset_names(card))
    return Imported(201, await _SUMMARY.value(id=row["id"]), card.notes, duplicate)


async def _replace(row: Any, card: NewCard) -> None:
    changes: dict[str, Any] = {
        name: getattr(card.fields, name) for name in ("name", "description", "tags", "extensions")
    }
    if card.portrait:
        changes["portrait"] = await refer_to(card.portrait)
    is_other = await replace_card(row, card.card, await _asset_names(card))
    await change(row, changes)
    if is_other:
        await touch(row)


async def _asset_names(card: NewCard) -> dict[str, str]:
    return dict(zip(card.assets, await refer_to_all(card.assets.values()), strict=True))


async def _find_duplicate(user: Caller, card: NewCard) -> UUID | None:
    found: UUID | None = await _DUPLICATE.value(user=user.id, content=card.card.content)
    return found


async def _store(name: str, content: bytes, room: int, dry_run: bool) -> NewCard:
    found, fields, text = await asyncio.to_thread(_read, content)
    others = len(found.files) - (found.icon is not None)
    size = len(text.encode()) + others * _ASSET_BYTES
    if size > room:
        raise TooLarge(f"The cards of one import may have at most {MAX_TOGETHER // 1024**2} MiB of JSON together.")
    portrait, digest = await _store_picture(found, dry_run), await content_name(BytesIO(content))
    contents = {path: file for path, file in found.files.items() if path != found.icon}
    assets = dict(zip(contents, await store_files(contents.values(), dry_run=dry_run), strict=True))
    return NewCard(
        card=ImportedCard(text, found.card.spec, found.card.spec_version, name, digest, found.icon),
        size=size,
        fields=fields,
        portrait=portrait,
        assets=assets,
        notes=(found.notes + fields.notes)[:MAX_NOTES],
    )


def _read(content: bytes) -> tuple[CardFile, CharacterFields, str]:
    found = read_file(content)
    fields = character_fields(found.card.data)
    check_bounds(found.card, fields)
    return found, fields, card_text(found.card.data)


async def _store_picture(found: CardFile, dry_run: bool) -> NewFile | None:
    """The stored portrait. A picture that is not valid becomes a note and an asset."""
    if found.picture is None:
        return None
    try:
        picture = found.picture
        if is_png := png.is_png(picture):
            picture = await asyncio.to_thread(png.without_metadata, picture)
        if len(picture) > MAX_UPLOAD:
            raise Unprocessable(f"The picture is larger than {MAX_UPLOAD // 1024**2} MiB.")
        with TemporaryFile() as file:
            file.write(picture)
            portrait = await store_picture(file, dry_run=dry_run)
        if is_png:
            await store_file(picture, dry_run=dry_run)  # by the same name: exports need its pixels and animation
        return portrait
    except (Unprocessable, UnsupportedMediaType) as error:
        found.notes.append(f"The picture was not used as the portrait: {error.detail}")
        found.icon = None  # then it is stored as an asset
        return None
