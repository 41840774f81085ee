from typing import Any

from piccolo.columns import (
    JSONB,
    UUID,
    Array,
    BigInt,
    Boolean,
    ForeignKey,
    Integer,
    OnDelete,
    OnUpdate,
    Text,
    Timestamptz,
    Varchar,
)
from piccolo.columns.defaults import TimestamptzNow
from piccolo.columns.readable import Readable
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from service.database.engine import DB
from service.media.tables import StoredFile
from service.schemas import NAME_LENGTH, TAG_LENGTH, Style, Visibility, constrained
from service.templates.tables import Template
from service.users.tables import User

TRASH_DAYS = 30  # a deleted character is purged after this time


class Character(Table, db=DB, tablename="characters"):
    id = UUID(primary_key=True, default=None, null=False)
    owner = ForeignKey(User, on_delete=OnDelete.restrict, on_update=OnUpdate.restrict, null=False)
    name = Varchar(length=NAME_LENGTH, default=None, null=False)
    description = Text(default="", null=False)
    prompt = Text(default=None, null=True, help_text="The character's own prompt; empty: the template's.")
    style = Varchar(length=16, default=None, null=True)
    tags = Array(base_column=Varchar(length=TAG_LENGTH), default=list, null=False)
    visibility = Varchar(length=16, default="private", null=False)
    attributes = JSONB(default="{}", null=False)
    extensions = JSONB(default="{}", null=False, help_text="Free space for data of clients.")
    template = ForeignKey(
        Template, on_delete=OnDelete.restrict, on_update=OnUpdate.restrict, default=None, null=True, index=True
    )
    template_version = Integer(default=None, null=True, help_text="The version that the character is pinned to.")
    forked_from: ForeignKey[Any] = ForeignKey(
        "self", on_delete=OnDelete.set_null, on_update=OnUpdate.restrict, default=None, null=True, index=True
    )
    portrait = ForeignKey(StoredFile, on_delete=OnDelete.restrict, on_update=OnUpdate.restrict, default=None, null=True)
    deleted_at = Timestamptz(default=None, null=True, help_text="The time it was moved to the trash.")
    ended = Boolean(default=False, null=False, help_text="Purged; the row remains for the feed of changes.")
    owner_inactive = Boolean(default=False, null=False, help_text="Owner suspended or departed; set by triggers.")
    written_in = BigInt(default=0, null=False, help_text="The last transaction that wrote the row; set by a trigger.")
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    updated_at = Timestamptz(default=TimestamptzNow(), null=False)

    known_character_visibility = Check(constrained("visibility", Visibility))
    known_character_style = Check(constrained("style", Style))
    only_trash_is_ended = Check("deleted_at IS NOT NULL OR NOT ended")
    pinned_to_a_version_of_its_template = Check("(template IS NULL) = (template_version IS NULL)")

    @classmethod
    def get_readable(cls) -> Readable:
        return Readable("%s", [cls.name])


class Revision(Table, db=DB, tablename="revisions", help_text="The values that each change of a character replaced."):
    id = UUID(primary_key=True, default=None, null=False)
    character = ForeignKey(Character, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False)
    number = Integer(
        default=None, null=False, help_text="The version after the change; version 1, the creation, has no row."
    )
    replaced = JSONB(default="{}", null=False, help_text="The previous values of the changed columns.")
    unchanged = JSONB(
        default=None,
        null=True,
        help_text="All other columns of the content; only in every 20th revision, so that reading one takes few steps.",
    )
    created_at = Timestamptz(default=TimestamptzNow(), null=False)

    one_revision_per_version = Unique([character, number])
