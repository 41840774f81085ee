from piccolo.columns import JSONB, UUID, Timestamptz, Varchar
from piccolo.columns.defaults import TimestamptzNow
from piccolo.table import Table

from service.database.engine import DB

ADDRESS_LENGTH = 45  # of an IPv6 address that holds an IPv4 one
DEVICE_LENGTH = 200  # of a User-Agent


class AuditEntry(Table, db=DB, tablename="audit_log", help_text="Actions: by whom, on which row. Append-only."):
    id = UUID(primary_key=True, default=None, null=False)
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    action = Varchar(length=32, default=None, null=False)
    kind = Varchar(length=32, default=None, null=False, help_text="The kind of the row.")
    row = Varchar(
        length=36, default=None, null=True, help_text="The id of the row. No foreign key: entries outlive rows."
    )
    member = UUID(default=None, null=True, help_text="The user who did it; neither member nor operator: unknown.")
    owner = UUID(
        default=None, null=True, help_text="The user to whom an operator did it: the row itself, or who owns the row."
    )
    operator = Varchar(length=100, default=None, null=True, help_text="The username of the operator who did it.")
    token = UUID(default=None, null=True, help_text="The session or API key that was used.")
    address = Varchar(length=ADDRESS_LENGTH, default=None, null=True, help_text="Empty: a command, no request.")
    request_id = Varchar(length=64, default=None, null=True)
    device = Varchar(length=DEVICE_LENGTH, default="", null=False, help_text="The User-Agent.")
    detail = JSONB(default="{}", null=False)
