"""Files that become characters, each for itself: what is wrong with one is no other's affair."""

import asyncio

import msgspec

from service.callers import Caller
from service.cards.formats.reader import MOST_NOTES, CardFile, read_file
from service.cards.formats.specs import Own, own_of
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

LARGEST_PICTURE = 10 * 1024 * 1024  # bytes, as of any portrait

_AT_ONCE = asyncio.Semaphore(2)  # a CHARX can unpack to 64 MiB
_SUMMARY = Prepared(lambda: Character.select(json_object(SUMMARY).as_alias("item")).where(Character.id == Param("id")))


class Imported(msgspec.Struct):
    """The summary of the character, as JSON, and what was normalised."""

    character: str
    notes: list[str]


async def import_file(user: Caller, name: str, content: bytes) -> Imported | ServiceError:
    """The error that keeps the file from being a character; then nothing of it is left. Raises what is none of the
    file's fault."""
    try:
        async with _AT_ONCE:
            return await _import(user, name, content)
    except Exception as error:
        problem = to_service_error(error)
        if problem.status == 500 or (problem.status > 500 and DB.transaction_exists()):  # it can be sent again, whole
            raise
        return problem


async def _import(user: Caller, name: str, content: bytes) -> Imported:
    found, own = await asyncio.to_thread(_read, content)
    portrait = await _store_picture(found)
    assets = {path: await store_file(file) for path, file in found.files.items() if path != found.icon}
    data = CharacterCreate(
        name=own.name, description=own.description, tags=own.tags, extensions=own.extensions, visibility="private"
    )
    async with DB.transaction() as transaction, transaction.connection.transaction():  # maybe one of many in a request
        row = await create_character(user, data, portrait)
        await create_card(row["id"], found.card, file=name, icon=found.icon, assets=assets)
        summary = await _SUMMARY.value(id=row["id"])
    return Imported(summary, (found.notes + own.notes)[:MOST_NOTES])


def _read(content: bytes) -> tuple[CardFile, Own]:
    found = read_file(content)
    return found, own_of(found.card.data)


async def _store_picture(found: CardFile) -> str | None:
    """The name of the stored portrait. A picture that cannot be one costs nothing but itself."""
    if found.picture is None:
        return None
    try:
        if len(found.picture) > LARGEST_PICTURE:
            raise Unprocessable("The picture is larger than 10 MiB.")
        return await store_picture(found.picture)
    except (Unprocessable, UnsupportedMediaType) as error:
        found.notes.append(f"The picture did not become the portrait: {error.detail}")
        found.icon = None  # then it is a file like the others
        return None
