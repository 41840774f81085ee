from piccolo.columns import JSON, UUID, Bytea, ForeignKey, OnDelete, OnUpdate, SmallInt, Timestamptz
from piccolo.columns.defaults import TimestamptzNow
from piccolo.table import Table

from service.database.engine import DB
from service.users.tables import User


class IdempotencyKey(
    Table, db=DB, tablename="idempotency_keys", help_text="Responses by idempotency key, for 24 hours."
):
    id = UUID(primary_key=True, default=None, null=False, help_text="Hash of user, method, path with query, and key.")
    user = ForeignKey(User, on_delete=OnDelete.cascade, on_update=OnUpdate.restrict, null=False, index=True)
    body_digest = Bytea(default=None, null=False, secret=True, help_text="SHA-256 of the request's body.")
    status = SmallInt(default=None, null=False)
    headers = JSON(default="{}", null=False)
    body = Bytea(default=None, null=False, secret=True)
    created_at = Timestamptz(default=TimestamptzNow(), null=False, index=True)
