import asyncio
import json
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from uuid import UUID

import msgspec
from piccolo.querystring import QueryString

from service.callers import Caller
from service.cards.drawing import render_picture
from service.cards.formats import png
from service.cards.formats.json import MAX_BYTES, write_document
from service.cards.formats.specs import required_fields
from service.cards.formats.writer import CharxCard, Export, ExportSpec, PngCard, StoredCard, Writer, as_json
from service.cards.schemas import CardQuery, CardUpdate
from service.cards.store import ASSETS, change_data, stored_card, stored_document
from service.cards.tables import Card
from service.characters.scopes import visible_to
from service.characters.store import check_own, lock_own, touch
from service.characters.tables import Character
from service.database.engine import DB
from service.database.prepared import Param, Prepared, utc
from service.errors import NotFound, TooLarge
from service.etags import check_if_match
from service.limits.turns import Turns
from service.media.queries import file_name, read_file
from service.media.storage import STORAGE
from service.text.json_values import is_same, stored_size

PORTRAIT_SIZE = "1024"  # enough for programs that show cards; a PNG of the original could have 100 MiB

_EXPORT = Prepared(
    lambda: Character.select(
        *(getattr(Character, name) for name in ("id", "version", "name", "description", "tags", "extensions")),
        *(getattr(Character, name) for name in ("portrait", "created_at", "updated_at")),
        Character.owner.username.as_alias("username"),
        QueryString(
            "(SELECT to_json(card) FROM (SELECT spec, spec_version, data, icon, file FROM cards"
            " JOIN card_documents ON card_documents.id = document WHERE character = {}) AS card)",
            Character.id,
        ).as_alias("card"),
    ).where(Character.id == Param("id"), visible_to(Param("user")))
)
CARD = {
    "character": Card.character,
    "file": Card.file,
    "spec": Card.spec,
    "spec_version": Card.spec_version,
    "data": Card.document.data,
    "assets": QueryString(
        "(SELECT coalesce(json_agg(path ORDER BY id), '[]') FROM card_assets WHERE card = {})", Card.id
    ),
    "created_at": utc(Card.created_at),
    "updated_at": utc(Card.updated_at),
}

MOST_IN_MEMORY = 1024 * 1024  # bytes of a card with files; a larger one is in a temporary file
_TOO_MANY = "Too many cards are being exported."
_TURNS = Turns(1, waiting=64, waiting_of_caller=16, refusal=_TOO_MANY)
_TURNS_OF_JSON = Turns(2, waiting=64, waiting_of_caller=16, refusal=_TOO_MANY)  # of cards without their files


class ExportedCard(msgspec.Struct):
    """The bytes of a card, in a temporary ``file`` if they are many, and the row of its character."""

    character: Any
    content: bytes
    file: IO[bytes] | None = None


async def get_card(user: Caller, character_id: UUID, query: CardQuery) -> ExportedCard:
    """Raises NotFound if the caller may not see the character."""
    if query.format != "json":
        return await _export_with_files(user, character_id, query)
    async with _TURNS_OF_JSON.turn():
        return await _in_json(user, character_id, query.spec)


async def get_written_card(user: Caller, character_id: UUID) -> ExportedCard:
    """The card after the caller's change. It waits for no turn: what is stored must not be answered with 503."""
    return await _in_json(user, character_id, None)


async def _in_json(user: Caller, character_id: UUID, spec: ExportSpec | None) -> ExportedCard:
    row, export = await _read(user, character_id)
    return ExportedCard(row, await asyncio.to_thread(as_json, export, spec or export.spec))


async def _read(user: Caller, character_id: UUID) -> tuple[Any, Export]:
    row = await _EXPORT.one(id=character_id, user=user.id)
    if row is None:
        raise NotFound
    return row, await asyncio.to_thread(_export, row)  # in a thread, here and elsewhere: a card may have 8 MiB


async def _export_with_files(user: Caller, character_id: UUID, query: CardQuery) -> ExportedCard:
    """Raises Unavailable if too many wait. In turn, also to read the card: it may have 8 MiB, and each file 64 MiB."""
    async with _TURNS.turn():
        row, export = await _read(user, character_id)
        file = SpooledTemporaryFile(MOST_IN_MEMORY)  # noqa: SIM115 (FromFile closes it)
        try:
            await _write_files(file, row, export, query)
        except BaseException:
            file.close()
            raise
        if await asyncio.to_thread(file.tell) > MOST_IN_MEMORY:
            return ExportedCard(row, b"", file)
        with file:
            file.seek(0)
            return ExportedCard(row, file.read())


async def _write_files(target: IO[bytes], row: Any, export: Export, query: CardQuery) -> None:
    portrait = await _portrait(row["portrait"]) if row["portrait"] else None
    writer: Writer
    if query.format == "png":
        picture = await render_picture(portrait, ".png")
        begin = partial(PngCard, is_portrait=portrait is not None)
        writer = await asyncio.to_thread(begin, target, export, query.spec, picture)
    else:
        icon = await render_picture(portrait, export.icon) if portrait else None
        writer = await asyncio.to_thread(CharxCard, target, export, icon)
    try:
        for asset in await ASSETS.all(character=row["id"]):
            await asyncio.to_thread(writer.add, asset["path"], await read_file(asset["file"]))
    finally:
        await asyncio.to_thread(writer.end)  # zipfile complains if its file is closed before


async def _portrait(name: str) -> bytes:
    """The imported PNG without metadata; for other portraits the picture as WebP."""
    try:
        original = await STORAGE.get(name)
    except FileNotFoundError:
        original = b""
    if png.is_png(original):  # the bytes of another file may have the same name, metadata and all
        return await asyncio.to_thread(png.without_metadata, original)
    return await read_file(file_name(name, PORTRAIT_SIZE))


async def update_card(user: Caller, character_id: UUID, data: CardUpdate, if_match: str | None) -> ExportedCard:
    """Also makes a new version of the character. Raises PreconditionFailed if ``if_match`` is stale, TooLarge if the
    card becomes larger than MAX_BYTES."""
    await check_own(user, character_id, if_match)
    stored = await stored_card(character_id)
    text = await _changed_text(stored, data)  # before the row is locked, as it takes long
    async with DB.transaction():
        row = await lock_own(user, character_id)
        check_if_match(if_match, character_id, row["version"])
        known = stored["document"] if stored else None
        if await stored_document(character_id) != known:  # another request was faster
            stored = await stored_card(character_id)
            text = await _changed_text(stored, data)
        if text is not None:
            await change_data(row, stored["id"] if stored else None, text)
            await touch(row)
    return await get_written_card(user, character_id)


async def _changed_text(stored: Any, data: CardUpdate) -> str | None:
    """None if ``data`` changes nothing."""
    defaults = required_fields() if stored and stored["content"] else {}  # an export completes other cards
    return await asyncio.to_thread(_text_after, stored["data"] if stored else "{}", data, defaults)


def _text_after(stored: str, data: CardUpdate, defaults: dict[str, Any]) -> str | None:
    """None if ``data`` changes nothing."""
    before = json.loads(stored)
    after = _changed(before, data, defaults)
    return None if is_same(after, before) else card_text(after)


def _changed(before: dict[str, Any], data: CardUpdate, defaults: dict[str, Any]) -> dict[str, Any]:
    """Null removes a field, or resets one of ``defaults``."""
    sent = {name: value for name, value in msgspec.structs.asdict(data).items() if value is not msgspec.UNSET}
    sent |= {name: default for name, default in defaults.items() if name in sent and sent[name] is None}
    removed = {name for name, value in sent.items() if value is None}
    return {name: value for name, value in (before | sent).items() if name not in removed}


def card_text(data: dict[str, Any]) -> str:
    """Raises TooLarge above MAX_BYTES."""
    text = write_document(data)
    if stored_size(data, text) > MAX_BYTES:
        raise TooLarge(f"A card may have at most {MAX_BYTES // 1024**2} MiB of JSON.")
    return text


def _export(row: Any) -> Export:
    card = json.loads(row["card"]) if row["card"] else None
    stored = card and StoredCard(
        card["file"] is not None, card["spec"], card["spec_version"], card["data"], card["icon"]
    )
    return Export(row, stored)
