from piccolo.columns import UUID, ForeignKey, Integer, OnDelete, OnUpdate, Text, Timestamptz, Varchar
from piccolo.columns.defaults import TimestamptzNow
from piccolo.constraints import Check
from piccolo.table import Table

from service.characters.tables import Character
from service.database.engine import DB

LABEL_LENGTH = 60


class Relationship(
    Table, db=DB, tablename="relationships", help_text="One row for both sides: source is type of target."
):
    id = UUID(primary_key=True, default=None, null=False)
    source = ForeignKey(Character, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False)
    target = ForeignKey(Character, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False)
    type = Varchar(length=30, default=None, null=False)
    inverse_type = Varchar(length=30, default=None, null=False, help_text="The same, read from the target's side.")
    label = Varchar(length=LABEL_LENGTH, default="", null=False, help_text="A custom type's own word.")
    inverse_label = Varchar(
        length=LABEL_LENGTH, default="", null=False, help_text="The same, read from the target's side."
    )
    description = Text(default="", null=False)
    source_attitude = Integer(default=None, null=True, help_text="What the source feels: −100 to 100.")
    target_attitude = Integer(default=None, null=True, help_text="What the target feels: −100 to 100.")
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    updated_at = Timestamptz(default=TimestamptzNow(), null=False)

    not_with_oneself = Check("source <> target")
    source_attitude_in_range = Check("source_attitude BETWEEN -100 AND 100")
    target_attitude_in_range = Check("target_attitude BETWEEN -100 AND 100")
