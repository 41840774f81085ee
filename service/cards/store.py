"""The rows of cards.

The data of a card is a document, which the copies of a character share. A document never changes: a card with other
data gets another document. A trigger deletes documents that no card has. Callers of functions that write have locked
the character, or have just created it."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from piccolo.querystring import QueryString

from service.cards.formats.specs import VERSIONS
from service.cards.tables import Card, CardAsset, CardDocument
from service.database.prepared import NOW, Param, Prepared, insert
from service.identifiers import uuid7

ASSETS = Prepared(
    lambda: (
        CardAsset.select(CardAsset.path, CardAsset.file)
        .where(CardAsset.card.character == Param("character"))
        .order_by(CardAsset.id)
    )
)
_COLUMNS = ("document", "file", "content", "spec", "spec_version", "icon")
_GET = Prepared(
    lambda: Card.select(
        Card.id, Card.document, Card.content, Card.spec, Card.spec_version, Card.icon,
        Card.document.data.as_alias("data"),
    ).where(Card.character == Param("character"))
)  # fmt: skip
_GET_DOCUMENT = Prepared(lambda: Card.select(Card.document).where(Card.character == Param("character")))
_CREATE_DOCUMENT = Prepared(lambda: insert(CardDocument, "id", "data"))
_CREATE = Prepared(lambda: insert(Card, "id", "character", *_COLUMNS))
_CREATE_ASSETS = Prepared(
    lambda: QueryString(
        "INSERT INTO card_assets (card, path, file) SELECT {}, path, file"
        " FROM unnest({}::text[], {}::text[]) WITH ORDINALITY AS given (path, file, place) ORDER BY place",
        *(Param(name) for name in ("card", "paths", "files")),
    )
)
_REPLACE = Prepared(
    lambda: Card.update({getattr(Card, name): Param(name) for name in _COLUMNS} | {Card.updated_at: NOW}).where(
        Card.id == Param("id")
    )
)
_UPDATE = Prepared(
    lambda: Card.update({Card.document: Param("document"), Card.updated_at: NOW}).where(Card.id == Param("id"))
)
_DELETE_ASSETS = Prepared(lambda: CardAsset.delete().where(CardAsset.card == Param("card")))
_LOCK_USAGE = Prepared(lambda: QueryString('SELECT FROM user_usage WHERE "user" = {} FOR NO KEY UPDATE', Param("user")))


class ImportedCard(msgspec.Struct, frozen=True):
    """The columns of a card. ``data`` is JSON with at most MAX_BYTES; ``file`` is the name of its file, and ``content``
    a hash of it."""

    data: str
    spec: str
    spec_version: str
    file: str | None = None
    content: str | None = None
    icon: str | None = None


async def stored_card(character_id: UUID) -> Any:
    """The columns of a character's card and its data, if it has one."""
    return await _GET.one(character=character_id)


async def stored_document(character_id: UUID) -> Any:
    """The id of the document, which is another one after each change."""
    return await _GET_DOCUMENT.value(character=character_id)


async def create_card(character_id: UUID, card: ImportedCard, assets: Mapping[str, str]) -> None:
    """``assets`` are the names of stored files by path."""
    card_id = uuid7()
    await _CREATE.one(id=card_id, character=character_id, **await _columns(card))
    await _create_assets(card_id, assets)


async def replace_card(character: Any, card: ImportedCard, assets: Mapping[str, str]) -> bool:
    """Stores another card of the locked ``character``. Returns False if it is the same, whatever the name of its
    file."""
    before = await stored_card(character["id"])
    if before is None:
        await create_card(character["id"], card, assets)
        return True
    files = {row["path"]: row["file"] for row in await ASSETS.all(character=character["id"])}
    compared = ("data", "content", "spec", "spec_version", "icon")
    if files == assets and all(before[name] == getattr(card, name) for name in compared):
        return False
    await _LOCK_USAGE.one(user=character["owner"])
    await _REPLACE.one(id=before["id"], **await _columns(card))
    if files != assets:
        await _DELETE_ASSETS.one(card=before["id"])
        await _create_assets(before["id"], assets)
    return True


async def change_data(character: Any, card_id: UUID | None, data: str) -> None:
    """Changes the data of a card of the locked ``character``. Without a card, it gets one."""
    if card_id is None:
        await create_card(character["id"], ImportedCard(data, "v3", VERSIONS["v3"]), {})
        return
    await _LOCK_USAGE.one(user=character["owner"])
    await _UPDATE.one(id=card_id, document=await _create_document(data))


async def _columns(card: ImportedCard) -> dict[str, Any]:
    columns = msgspec.structs.asdict(card)
    return columns | {"document": await _create_document(columns.pop("data"))}


async def _create_document(data: str) -> UUID:
    document = uuid7()
    await _CREATE_DOCUMENT.one(id=document, data=data)
    return document


async def _create_assets(card_id: UUID, assets: Mapping[str, str]) -> None:
    if assets:
        await _CREATE_ASSETS.one(card=card_id, paths=list(assets), files=list(assets.values()))
