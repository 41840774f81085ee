"""Imports files as characters. Each file succeeds or fails on its own."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from service.callers import Caller
from service.cards.formats import png
from service.cards.formats.assets import MAX_NOTES, CardFile
from service.cards.formats.fields import CharacterFields, character_fields, check_bounds
from service.cards.formats.reader import read_file
from service.cards.queries import card_text, create_card
from service.characters.queries import create_character
from service.characters.schemas import CharacterCreate
from service.characters.scopes import SUMMARY
from service.characters.tables import Character
from service.database.engine import DB
from service.database.failures import to_service_error
from service.database.held import check_no_connection
from service.database.prepared import Param, Prepared, json_object
from service.errors import ServiceError, TooLarge, Unprocessable, UnsupportedMediaType
from service.media.queries import NewFile, refer_to, store_file, store_picture
from service.media.schemas import MAX_UPLOAD

MAX_TOGETHER = 32 * 1024 * 1024  # bytes of the cards of one import, which are in memory together
_ASSET_BYTES = 1024  # what one asset counts
_AT_ONCE = asyncio.Semaphore(2)  # files in memory: one has up to 50 MiB, and a CHARX can unpack to 64 MiB
_SUMMARY = Prepared(lambda: Character.select(json_object(SUMMARY).as_alias("item")).where(Character.id == Param("id")))


class NewCard(msgspec.Struct, kw_only=True):
    """A card whose files are stored, before its character exists. ``size`` is what it counts, in bytes."""

    name: str
    spec: str
    spec_version: str
    text: str
    size: int
    fields: CharacterFields
    icon: str | None
    portrait: NewFile | None
    assets: dict[str, NewFile]
    notes: list[str]


class Imported(msgspec.Struct):
    """``character`` is its summary as JSON; ``notes`` say what was normalised."""

    character: str
    notes: list[str]


async def store_card(
    name: str, read: Callable[[], Awaitable[bytes]], *, room: int, dry_run: bool
) -> NewCard | ServiceError:
    """Reads a card and stores its files, outside of transactions. Returns the error if that fails.

    ``read`` gives the content of the file, and is called when there is memory for it. ``room`` is the most bytes that
    the card's text may have. Raises errors that the file did not cause.
    """
    check_no_connection("Reading a card")
    try:
        async with _AT_ONCE:
            return await _store(name, await read(), room, dry_run)
    except Exception as error:
        problem = to_service_error(error)
        if problem.status == 500:
            raise
        return problem


async def import_card(user: Caller, card: NewCard | ServiceError) -> Imported | ServiceError:
    """Creates the character. Returns the error if the card cannot be imported; nothing of it is stored then.

    Raises errors that the file did not cause.
    """
    if isinstance(card, ServiceError):
        if _undoes_all(card):
            raise card
        return card
    try:
        return await _import(user, card)
    except Exception as error:
        problem = to_service_error(error)
        if problem.status == 500 or _undoes_all(problem):
            raise
        return problem


def _undoes_all(problem: ServiceError) -> bool:
    """In a transaction of the request, any failure of the service undoes all files: the request can be repeated."""
    return problem.status >= 500 and DB.transaction_exists()


async def _import(user: Caller, card: NewCard) -> Imported:
    data = CharacterCreate(
        name=card.fields.name,
        description=card.fields.description,
        tags=card.fields.tags,
        extensions=card.fields.extensions,
        visibility="private",
    )
    # The inner transaction is a savepoint: the outer one may be that of the whole request.
    async with DB.transaction() as transaction, transaction.connection.transaction():
        portrait = await refer_to(card.portrait) if card.portrait else None
        assets = {path: await refer_to(file) for path, file in card.assets.items()}
        row = await create_character(user, data, portrait)
        await create_card(
            row["id"],
            card.text,
            spec=card.spec,
            spec_version=card.spec_version,
            file=card.name,
            icon=card.icon,
            assets=assets,
        )
        summary = await _SUMMARY.value(id=row["id"])
    return Imported(summary, card.notes)


async def _store(name: str, content: bytes, room: int, dry_run: bool) -> NewCard:
    found, fields, text = await asyncio.to_thread(_read, content)
    others = len(found.files) - (found.icon is not None)
    size = len(text.encode()) + others * _ASSET_BYTES
    if size > room:
        raise TooLarge(f"The cards of one import may have at most {MAX_TOGETHER // 1024**2} MiB of JSON together.")
    portrait = await _store_picture(found, dry_run)
    assets = {path: await store_file(file, dry_run=dry_run) for path, file in found.files.items() if path != found.icon}
    return NewCard(
        name=name,
        spec=found.card.spec,
        spec_version=found.card.spec_version,
        text=text,
        size=size,
        fields=fields,
        icon=found.icon,
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
        if len(found.picture) > MAX_UPLOAD:
            raise Unprocessable(f"The picture is larger than {MAX_UPLOAD // 1024**2} MiB.")
        if not png.is_png(found.picture):
            return await store_picture(found.picture, dry_run=dry_run)
        picture = await asyncio.to_thread(png.without_metadata, found.picture)
        portrait = await store_picture(picture, dry_run=dry_run)
        await store_file(picture, dry_run=dry_run)  # by the same name: exports need its pixels and animation
        return portrait
    except (Unprocessable, UnsupportedMediaType) as error:
        found.notes.append(f"The picture was not used as the portrait: {error.detail}")
        found.icon = None  # then it is stored as an asset
        return None
