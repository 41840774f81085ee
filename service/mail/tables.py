from piccolo.columns import UUID, Integer, Timestamptz, Varchar
from piccolo.columns.defaults import TimestamptzNow
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from service.database.engine import DB

ADDRESS_LENGTH = 254
KIND_LENGTH = 32


class Message(Table, db=DB, tablename="outbox", help_text="Queued mail; a message is deleted once it is sent."):
    id = UUID(primary_key=True, default=None, null=False)
    kind = Varchar(length=KIND_LENGTH, default=None, null=False)
    address = Varchar(
        length=ADDRESS_LENGTH, default=None, null=False, help_text="Case-folded for verification and reset."
    )
    username = Varchar(
        length=32, default="", null=False, help_text="Name in the greeting; empty: looked up on sending."
    )
    attempts = Integer(default=0, null=False)
    due_at = Timestamptz(default=TimestamptzNow(), null=False, index=True)
    created_at = Timestamptz(default=TimestamptzNow(), null=False)

    one_message_of_a_kind = Unique([kind, address])
    known_message_kind = Check(
        "kind IN ('verification', 'reset', 'email_changed', 'password_changed', 'api_key_created')"
    )
