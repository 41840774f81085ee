from piccolo.columns import UUID, Boolean, ForeignKey, Integer, OnDelete, OnUpdate, Text, Timestamptz, Varchar
from piccolo.columns.defaults import TimestamptzNow
from piccolo.constraints import Check
from piccolo.table import Table

from service.characters.tables import Character
from service.database.engine import DB

LABEL_LENGTH = 60


class Relationship(
    Table, db=DB, tablename="relationships", help_text="Relationships: the source is the type of the target."
):
    id = UUID(primary_key=True, default=None, null=False)
    source = ForeignKey(Character, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False)
    target = ForeignKey(Character, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False)
    type = Varchar(length=30, default=None, null=False)
    inverse_type = Varchar(length=30, default=None, null=False, help_text="As read from the target's side.")
    label = Varchar(length=LABEL_LENGTH, default="", null=False, help_text="The label of a custom type.")
    inverse_label = Varchar(length=LABEL_LENGTH, default="", null=False, help_text="As read from the target's side.")
    description = Text(default="", null=False)
    source_attitude = Integer(default=None, null=True, help_text="The source's attitude to the target, −100 to 100.")
    target_attitude = Integer(default=None, null=True, help_text="The target's attitude to the source, −100 to 100.")
    created_from_target = Boolean(
        default=False, null=False, help_text="A request that names no side reads it from the target's side."
    )
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    updated_at = Timestamptz(default=TimestamptzNow(), null=False)

    not_with_oneself = Check("source <> target")
    source_attitude_in_range = Check("source_attitude BETWEEN -100 AND 100")
    target_attitude_in_range = Check("target_attitude BETWEEN -100 AND 100")
