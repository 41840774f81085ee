from piccolo.columns import JSON, UUID, BigSerial, ForeignKey, OnDelete, OnUpdate, Timestamptz, Varchar
from piccolo.columns.defaults import TimestamptzNow
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from service.cards.formats.charx import PATH_LENGTH
from service.cards.formats.specs import VERSION_LENGTH, Spec
from service.characters.tables import Character
from service.database.engine import DB
from service.media.tables import NAME_LENGTH as CONTENT_LENGTH
from service.media.tables import StoredFile
from service.schemas import constrained

FILE_LENGTH = 255


class CardDocument(Table, db=DB, tablename="card_documents", help_text="The data of a card, shared by copies of it."):
    """Never changes. A trigger deletes it with the last card that has it."""

    id = UUID(primary_key=True, default=None, null=False)
    data = JSON(default="{}", null=False, help_text="The data of the card, in its original order.")


class Card(Table, db=DB, tablename="cards", help_text="The Character Card of a character."):
    id = UUID(primary_key=True, default=None, null=False)
    character = ForeignKey(Character, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False, unique=True)
    file = Varchar(
        length=FILE_LENGTH,
        default=None,
        null=True,
        help_text="The name of the imported file; none for a character that was not imported.",
    )
    content = Varchar(
        length=CONTENT_LENGTH, default=None, null=True, index=True, help_text="HMAC-SHA256 of the imported file."
    )
    spec = Varchar(length=2, default=None, null=False)
    spec_version = Varchar(length=VERSION_LENGTH, default=None, null=False)
    document = ForeignKey(
        CardDocument, on_delete=OnDelete.restrict, on_update=OnUpdate.restrict, null=False, index=True
    )
    icon = Varchar(length=PATH_LENGTH, default=None, null=True, help_text="The path of the portrait in a CHARX.")
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    updated_at = Timestamptz(default=TimestamptzNow(), null=False)

    known_card_spec = Check(constrained("spec", Spec))


class CardAsset(Table, db=DB, tablename="card_assets", help_text="A file of an imported card, kept for exports."):
    id = BigSerial(primary_key=True)
    card = ForeignKey(Card, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False)
    path = Varchar(length=PATH_LENGTH, default=None, null=False)
    file = ForeignKey(StoredFile, on_delete=OnDelete.restrict, on_update=OnUpdate.restrict, null=False, index=True)

    one_asset_per_path = Unique([card, path])
