"""Imports files as characters. Each file succeeds or fails on its own."""

import asyncio

import msgspec

from service.callers import Caller
from service.cards.formats.reader import MAX_NOTES, CardFile, read_file
from service.cards.formats.specs import CharacterFields, character_fields
from service.cards.queries import create_card
from service.characters.queries import create_character
from service.characters.schemas import CharacterCreate
from service.characters.scopes import SUMMARY
from service.characters.tables import Character
from service.database.engine import DB
from service.database.failures import to_service_error
from service.database.prepared import Param, Prepared, json_object
from service.errors import ServiceError, Unprocessable, UnsupportedMediaType
from service.media.queries import store_file, store_picture
from service.media.schemas import MAX_UPLOAD

_AT_ONCE = asyncio.Semaphore(2)  # a CHARX can unpack to 64 MiB
_SUMMARY = Prepared(lambda: Character.select(json_object(SUMMARY).as_alias("item")).where(Character.id == Param("id")))


class Imported(msgspec.Struct):
    """``character`` is its summary as JSON; ``notes`` say what was normalised."""

    character: str
    notes: list[str]


async def import_file(user: Caller, name: str, content: bytes) -> Imported | ServiceError:
    """Returns the error if the file cannot be imported; nothing of it is stored then.

    Raises errors that the file did not cause.
    """
    try:
        async with _AT_ONCE:
            return await _import(user, name, content)
    except Exception as error:
        problem = to_service_error(error)
        # In a transaction of the request, any failure of the service undoes all files: the request can be repeated.
        if problem.status == 500 or (problem.status > 500 and DB.transaction_exists()):
            raise
        return problem


async def _import(user: Caller, name: str, content: bytes) -> Imported:
    found, fields = await asyncio.to_thread(_read, content)
    portrait = await _store_picture(found)
    assets = {path: await store_file(file) for path, file in found.files.items() if path != found.icon}
    data = CharacterCreate(
        name=fields.name,
        description=fields.description,
        tags=fields.tags,
        extensions=fields.extensions,
        visibility="private",
    )
    # The inner transaction is a savepoint: the outer one may be that of the whole request.
    async with DB.transaction() as transaction, transaction.connection.transaction():
        row = await create_character(user, data, portrait)
        await create_card(row["id"], found.card, file=name, icon=found.icon, assets=assets)
        summary = await _SUMMARY.value(id=row["id"])
    return Imported(summary, (found.notes + fields.notes)[:MAX_NOTES])


def _read(content: bytes) -> tuple[CardFile, CharacterFields]:
    found = read_file(content)
    return found, character_fields(found.card.data)


async def _store_picture(found: CardFile) -> str | None:
    """The name of the stored portrait. A picture that is not valid becomes a note and an asset."""
    if found.picture is None:
        return None
    try:
        if len(found.picture) > MAX_UPLOAD:
            raise Unprocessable(f"The picture is larger than {MAX_UPLOAD // 1024**2} MiB.")
        return await store_picture(found.picture)
    except (Unprocessable, UnsupportedMediaType) as error:
        found.notes.append(f"The picture was not used as the portrait: {error.detail}")
        found.icon = None  # then it is stored as an asset
        return None
