from typing import Any

from piccolo.columns import (
    JSON,
    UUID,
    Array,
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
from service.schemas import NAME_LENGTH, TAG_LENGTH, Style, Visibility, constrained
from service.users.tables import User


class Template(
    Table, db=DB, tablename="templates", help_text="Templates of characters; their versions hold prompt and schema."
):
    id = UUID(primary_key=True, default=None, null=False)
    owner = ForeignKey(
        User,
        on_delete=OnDelete.restrict,
        on_update=OnUpdate.restrict,
        default=None,
        null=True,
        help_text="None: a template of the platform.",
    )
    name = Varchar(length=NAME_LENGTH, default=None, null=False)
    description = Text(default="", null=False)
    style = Varchar(length=16, default=None, null=True)
    tags = Array(base_column=Varchar(length=TAG_LENGTH), default=list, null=False)
    visibility = Varchar(length=16, default="private", null=False)
    newest_version = Integer(default=1, null=False, help_text="The number of the newest published version.")
    forked_from: ForeignKey[Any] = ForeignKey(
        "self", on_delete=OnDelete.set_null, on_update=OnUpdate.restrict, default=None, null=True, index=True
    )
    retired_at = Timestamptz(default=None, null=True, help_text="From then on, no new characters.")
    owner_inactive = Boolean(default=False, null=False, help_text="Owner suspended or departed; set by triggers.")
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    updated_at = Timestamptz(default=TimestamptzNow(), null=False)

    known_template_visibility = Check(constrained("visibility", Visibility))
    known_template_style = Check(constrained("style", Style))

    @classmethod
    def get_readable(cls) -> Readable:
        return Readable("%s", [cls.name])


class TemplateVersion(
    Table, db=DB, tablename="template_versions", help_text="Versions of templates; unchangeable once published."
):
    id = UUID(primary_key=True, default=None, null=False)
    template = ForeignKey(Template, on_delete=OnDelete.restrict, on_update=OnUpdate.restrict, null=False)
    number = Integer(default=None, null=False)
    prompt = Text(default="", null=False)
    attribute_schema = JSON(default="{}", null=False, help_text="JSON, not JSONB: the author's order is kept.")
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    published_at = Timestamptz(default=None, null=True, help_text="None: a draft, visible to its owner only.")
    deprecated_at = Timestamptz(default=None, null=True)

    one_number_per_template = Unique([template, number])
