"""``piccolo service purge``: deletes expired rows. Run it once a day."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString
from piccolo.table import Table

from service.admin.operators import OperatorSession, is_expired
from service.audit.actions import Action
from service.audit.queries import record
from service.auth.email_links import ENDED as ENDED_EMAIL_TOKEN
from service.auth.queries import ENDED as ENDED_TOKEN
from service.auth.tables import EmailToken, Token
from service.characters.purging import BATCH, batched, clear, leave_empty, mark_purged
from service.characters.tables import TRASH_DAYS, Character
from service.characters.thinning import thin_revisions
from service.commands.accounts import VERIFICATION_DAYS, purge_accounts
from service.commands.skipping import count_unless_held
from service.database.engine import DB
from service.database.prepared import NOW, Param, Prepared, sql
from service.idempotency.queries import ENDED
from service.idempotency.tables import IdempotencyKey
from service.mail.outbox import OVERDUE
from service.mail.tables import Message
from service.settings import settings
from service.users.tables import ReservedUsername, User

_TOO_LONG = Prepared(
    lambda: QueryString(
        "SELECT id, owner FROM characters WHERE version > {} AND"
        " (SELECT count(*) FROM revisions WHERE character = characters.id) >= {}",
        Param("most"),
        Param("most"),
    )
)
_FORGET_DELETIONS = batched(  # of templates and relationships; a character's row tells of its own
    "SELECT id FROM changed_rows WHERE deleted_at < now() - {}::int * interval '1 day' LIMIT {}",
    "DELETE FROM changed_rows USING batch WHERE changed_rows.id = batch.id",
    "days",
)
_DELETE_ENTRIES = batched(
    "SELECT id FROM audit_log WHERE created_at < now() - {}::int * interval '1 day' LIMIT {}",
    "DELETE FROM audit_log USING batch WHERE audit_log.id = batch.id",
    "days",
)
_THINNED_AT_ONCE = 100  # revisions in one transaction


async def purge() -> None:
    """Delete trash, closed and never verified accounts after 30 days, and whatever else has expired."""
    for name, count in (await purge_everything()).items():
        print(f"{name}: {count} deleted")


async def purge_everything() -> dict[str, int]:
    """Returns how many rows of each kind were deleted."""
    return {
        "trash": await _purge_trash(),
        "tokens": await _delete(Token, ENDED_TOKEN),
        "email tokens": await _delete(EmailToken, ENDED_EMAIL_TOKEN),
        "messages": await _delete(Message, OVERDUE),
        "operators' sessions": await _delete(OperatorSession, is_expired()),
        "idempotency keys": await _delete(IdempotencyKey, ENDED),
        "accounts": await purge_accounts(),
        "unverified addresses": await _in_batches(_release_addresses),
        "thinned revisions": await _thin_histories(),
        "reserved usernames": await _delete(ReservedUsername, WhereRaw("{} < now()", ReservedUsername.until)),
        "audit entries": await _in_batches(_delete_entries),
        "deletions in the feed": await _in_batches(_forget_deletions),
    }


async def _purge_trash() -> int:
    """Also finishes what a request to purge a character has left."""
    for row in await Character.select(Character.id).where(Character.ended.eq(True), Character.name != ""):
        await count_unless_held(f"The character {row['id']}", _finish(row["id"]))
    old = WhereRaw("{} < now() - {}::int * interval '1 day'", Character.deleted_at, TRASH_DAYS)
    ids = [row["id"] for row in await Character.select(Character.id).where(old)]
    return sum([await count_unless_held(f"The character {each}", _purge_character(each, old)) for each in ids])


async def _in_batches(purge_batch: Callable[[], Awaitable[int]]) -> int:
    """Repeats ``purge_batch``, which is a transaction of BATCH rows at most, until it finds fewer. While a transaction
    runs, nobody's feed of changes shows anything new."""
    total, count = 0, BATCH
    while count == BATCH:
        total += (count := await purge_batch())
    return total


async def _forget_deletions() -> int:
    return int(await _FORGET_DELETIONS.value(days=TRASH_DAYS, batch=BATCH))


async def _delete_entries() -> int:
    """The table's trigger allows it only here."""
    async with DB.transaction() as transaction:
        await transaction.connection.execute("SET LOCAL audit_log.purging = 'on'")
        return int(await _DELETE_ENTRIES.value(days=settings.audit_days, batch=BATCH))


async def _finish(character_id: UUID) -> int:
    await clear([character_id])
    await leave_empty(character_id)
    return 1


async def _purge_character(character_id: UUID, old: Any) -> int:
    async with DB.transaction():
        if not await Character.select(Character.id).where((Character.id == character_id) & old).lock_rows("UPDATE"):
            return 0
        await mark_purged(character_id)
    await clear([character_id])
    return await _delete(Character, (Character.id == character_id) & Character.ended.eq(True))


async def _release_addresses() -> int:
    """Takes addresses from accounts that did not verify them in time, so that their owners can use them. The accounts
    stay: an earlier address was verified."""
    late = User.email_verified_at.is_null() & WhereRaw(
        "{} < now() - {}::int * interval '1 day'", User.email_changed_at, VERIFICATION_DAYS
    )
    none: dict[Any, Any] = {User.email: None, User.email_key: None, User.email_changed_at: None}
    async with DB.transaction():
        ids: Any = await User.select(User.id).where(late).limit(BATCH).lock_rows("UPDATE").output(as_list=True)
        change = User.update(none | {User.version: User.version + 1, User.updated_at: NOW})
        if ids:
            await change.where(User.id.is_in(ids))
        for user_id in ids:
            await record(Action.RELEASE_EMAIL, "user", user_id)
    return len(ids)


async def _thin_histories() -> int:
    """Histories that are too long since the setting was lowered, up to 100 revisions in a transaction."""
    rows = await _TOO_LONG.all(most=settings.revisions_kept)
    return sum([await count_unless_held(f"The history of {row['id']}", _thin_history(row)) for row in rows])


async def _thin_history(row: Any) -> int:
    count, done = 0, _THINNED_AT_ONCE
    while done == _THINNED_AT_ONCE:
        async with DB.transaction():
            locked = await Character.select(Character.id).where(Character.id == row["id"]).lock_rows("NO KEY UPDATE")
            done = await thin_revisions(row, at_once=_THINNED_AT_ONCE) if locked else 0
        count += done
    return count


async def _delete(table: type[Table], condition: Any) -> int:
    key, name = table._meta.primary_key._meta.db_column_name, table._meta.tablename
    delete_batch = Prepared(
        lambda: QueryString(
            f"WITH batch AS ({{}}), deleted AS (DELETE FROM {name} USING batch WHERE {name}.{key} = batch.{key}"  # noqa: S608 (our own names)
            " RETURNING 1) SELECT count(*) FROM deleted",
            # Locked, so that a row that somebody changes meanwhile stays if it no longer meets the condition
            sql(table.select(table._meta.primary_key).where(condition).limit(BATCH).lock_rows("UPDATE")),
        )
    )
    return await _in_batches(delete_batch.value)
