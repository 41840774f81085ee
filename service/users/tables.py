from piccolo.columns import JSON, UUID, Boolean, ForeignKey, Integer, OnDelete, OnUpdate, Text, Timestamptz, Varchar
from piccolo.columns.defaults import TimestamptzNow
from piccolo.columns.readable import Readable
from piccolo.constraints import Check, Unique
from piccolo.table import Table

from service.database.engine import DB
from service.media.tables import StoredFile

EMAIL_LENGTH = 254
USERNAME_LENGTH = 32
DISPLAY_NAME_LENGTH = 120
BIO_LENGTH = 2_000
RESERVED_DAYS = 90  # nobody takes the username of a purged account for so long


class User(Table, db=DB, tablename="users", help_text="A member: somebody who uses the API."):
    id = UUID(primary_key=True, default=None, null=False)
    email = Varchar(length=EMAIL_LENGTH, default=None, null=True, help_text="As it was sent.")
    email_key = Varchar(length=EMAIL_LENGTH, default=None, null=True, help_text="Folded: one account per address.")
    email_verified_at = Timestamptz(default=None, null=True, help_text="When its owner proved to read it.")
    email_changed_at = Timestamptz(
        default=None,
        null=True,
        help_text="When the user took an address that is not verified yet: released 30 days later. Empty at sign-up.",
    )
    must_verify = Boolean(
        default=False, null=False, help_text="No address was ever verified: purged 30 days after sign-up."
    )
    username = Varchar(length=USERNAME_LENGTH, default=None, null=False)
    password_hash = Varchar(length=255, default=None, null=True, secret=True, help_text="Argon2id; none: no sign-in.")
    status = Varchar(length=16, default="active", null=False)
    display_name = Varchar(length=DISPLAY_NAME_LENGTH, default="", null=False)
    bio = Text(default="", null=False)
    links = JSON(default="[]", null=False)
    avatar = ForeignKey(StoredFile, on_delete=OnDelete.restrict, on_update=OnUpdate.restrict, default=None, null=True)
    deleted_at = Timestamptz(default=None, null=True, help_text="The member left; purged 30 days later.")
    version = Integer(default=1, null=False)
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    updated_at = Timestamptz(default=TimestamptzNow(), null=False)

    one_account_per_email = Unique([email_key])
    one_account_per_username = Unique([username])
    known_user_status = Check("status IN ('active', 'suspended')")

    @classmethod
    def get_readable(cls) -> Readable:
        return Readable("%s", [cls.username])


class ReservedUsername(Table, db=DB, tablename="reserved_usernames", help_text="Usernames of purged accounts."):
    username = Varchar(length=USERNAME_LENGTH, primary_key=True, default=None, null=False)
    until = Timestamptz(default=None, null=False)
