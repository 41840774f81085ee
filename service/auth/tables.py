from piccolo.columns import UUID, Array, Bytea, ForeignKey, OnDelete, OnUpdate, Timestamptz, Varchar
from piccolo.columns.defaults import TimestamptzNow
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from service.audit.tables import DEVICE_LENGTH
from service.database.engine import DB
from service.schemas import TITLE_LENGTH
from service.users.tables import EMAIL_LENGTH, User

ADDRESS_LENGTH = 64


class Token(Table, db=DB, tablename="tokens", help_text="Sessions and API keys."):
    id = UUID(primary_key=True, default=None, null=False)
    user = ForeignKey(User, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False, index=True)
    kind = Varchar(length=16, default=None, null=False)
    digest = Bytea(
        default=b"", null=False, secret=True, help_text="SHA-256 of the token; the token itself is not stored."
    )
    name = Varchar(
        length=TITLE_LENGTH, default="", null=False, help_text="The name of an API key; sessions have a device."
    )
    device = Varchar(length=DEVICE_LENGTH, default="", null=False, help_text="The User-Agent that signed in.")
    address = Varchar(length=ADDRESS_LENGTH, default="", null=False, help_text="Where a session was signed in from.")
    scopes = Array(base_column=Varchar(length=50), default=list, null=False)
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    expires_at = Timestamptz(default=None, null=True)
    last_used_at = Timestamptz(default=None, null=True)

    one_row_per_token = Unique([digest])
    known_token_kind = Check("kind IN ('session', 'key')")


class EmailToken(Table, db=DB, tablename="email_tokens", help_text="The tokens of links in messages; each works once."):
    id = UUID(primary_key=True, default=None, null=False)
    user = ForeignKey(User, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False)
    purpose = Varchar(length=32, default=None, null=False)
    digest = Bytea(
        default=b"", null=False, secret=True, help_text="SHA-256 of the token; the token itself is not stored."
    )
    email_key = Varchar(
        length=EMAIL_LENGTH,
        default=None,
        null=False,
        help_text="The address that it was sent to; it verifies no other.",
    )
    expires_at = Timestamptz(default=None, null=False)
    created_at = Timestamptz(default=TimestamptzNow(), null=False)

    one_live_token_per_purpose = Unique([user, purpose])
    one_row_per_email_token = Unique([digest])
    known_purpose = Check("purpose IN ('verification', 'reset')")
