from piccolo.columns import UUID, Bytea, ForeignKey, OnDelete, OnUpdate, Timestamptz, Varchar
from piccolo.columns.defaults import TimestamptzNow
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from service.database import DB
from service.users.tables import EMAIL_LENGTH, User


class EmailToken(Table, db=DB, tablename="email_tokens", help_text="What a link in a letter opens, once."):
    id = UUID(primary_key=True, default=None, null=False)
    user = ForeignKey(User, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False)
    purpose = Varchar(length=32, default=None, null=False)
    digest = Bytea(default=b"", null=False, secret=True, help_text="SHA-256 of the token, which nobody keeps.")
    email_key = Varchar(length=EMAIL_LENGTH, default=None, null=False, help_text="Where it was sent: good there alone.")
    expires_at = Timestamptz(default=None, null=False)
    created_at = Timestamptz(default=TimestamptzNow(), null=False)

    one_live_token_per_purpose = Unique([user, purpose])
    one_row_per_email_token = Unique([digest])
    known_purpose = Check("purpose IN ('verification', 'reset')")
