"""``piccolo service purge``: deletes expired rows. Run it once a day."""

from typing import Any
from uuid import UUID

import asyncpg
from loguru import logger
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString
from piccolo.table import Table

from service.admin.operators import OperatorSession, is_expired
from service.audit.queries import purge_entries, record
from service.auth.email_links import ENDED as ENDED_EMAIL_TOKEN
from service.auth.tables import EmailToken, Token
from service.characters.tables import TRASH_DAYS, Character
from service.characters.thinning import thin_revisions
from service.database.engine import DB
from service.database.prepared import NOW, Param, Prepared
from service.idempotency.queries import ENDED
from service.idempotency.tables import IdempotencyKey
from service.mail.outbox import OVERDUE
from service.mail.tables import Message
from service.settings import settings
from service.templates.tables import Template, TemplateVersion
from service.users.tables import RESERVED_DAYS, ReservedUsername, User

_RESERVE = Prepared(
    lambda: QueryString(
        "INSERT INTO reserved_usernames (username, until)"
        " SELECT username, now() + {}::int * interval '1 day' FROM users WHERE id = {}"
        " ON CONFLICT (username) DO UPDATE SET until = excluded.until",
        RESERVED_DAYS,
        Param("id"),
    )
)

_TOO_LONG = Prepared(
    lambda: QueryString(
        "SELECT id, owner FROM characters WHERE version > {} AND"
        " (SELECT count(*) FROM revisions WHERE character = characters.id) >= {}",
        Param("most"),
        Param("most"),
    )
)
_THINNED_AT_ONCE = 100  # revisions in one transaction

VERIFICATION_DAYS = 30  # after sign-up, or after the user changed it, in which an address must be verified


async def purge() -> None:
    """Delete trash, closed and never verified accounts after 30 days, and whatever else has expired."""
    for name, count in (await purge_everything()).items():
        print(f"{name}: {count} deleted")


async def purge_everything() -> dict[str, int]:
    """Returns how many rows of each kind were deleted."""
    return {
        "trash": await _purge_trash(),
        "tokens": await _delete(Token, _ended()),
        "email tokens": await _delete(EmailToken, ENDED_EMAIL_TOKEN),
        "messages": await _delete(Message, OVERDUE),
        "operators' sessions": await _delete(OperatorSession, is_expired()),
        "idempotency keys": await _delete(IdempotencyKey, ENDED),
        "accounts": await _purge_accounts(),
        "unverified addresses": await _release_addresses(),
        "thinned revisions": await _thin_histories(),
        "reserved usernames": await _delete(ReservedUsername, WhereRaw("{} < now()", ReservedUsername.until)),
        "audit entries": await purge_entries(settings.audit_days),
    }


def _ended() -> WhereRaw:
    idle = settings.session_idle_days
    return WhereRaw(
        "{} < now() OR ({} = 'session' AND {} < now() - {}::int * interval '1 day')",
        Token.expires_at,
        Token.kind,
        Token.last_used_at,
        idle,
    )


async def _purge_trash() -> int:
    """Each character in its own transaction: one for all would lock the usage of many users, and could deadlock."""
    old = WhereRaw("{} < now() - {}::int * interval '1 day'", Character.deleted_at, TRASH_DAYS)
    found: Any = await Character.select(Character.id).where(old)
    return sum([await _delete(Character, (Character.id == row["id"]) & old) for row in found])


async def _purge_accounts() -> int:
    """Deletes accounts 30 days after they were closed, or after sign-up when no address was ever verified."""
    old = "{} < now() - {}::int * interval '1 day'"
    doomed = WhereRaw(old, User.deleted_at, TRASH_DAYS) | (
        User.must_verify.eq(True) & WhereRaw(old, User.created_at, VERIFICATION_DAYS)
    )
    found: Any = await User.select(User.id).where(doomed)
    return sum([await _purge_account(row["id"], doomed) for row in found])


async def _purge_account(user_id: UUID, doomed: Any) -> bool:
    """Deletes the account, but keeps its templates that characters of other users are pinned to, without an owner.

    Returns False when it is no longer ``doomed``, and when such a character is created at the same time; the next run
    tries again."""
    try:
        async with DB.transaction() as transaction:
            if not await User.select(User.id).where(User.id == user_id, doomed).lock_rows("UPDATE").first():
                return False
            # Without this row, its trigger has nothing to count down for each character.
            await transaction.connection.execute('DELETE FROM user_usage WHERE "user" = $1', user_id)
            await Character.delete().where(Character.owner == user_id)
            unused = WhereRaw("NOT EXISTS (SELECT FROM characters WHERE template = {})", Template.id)
            own = await Template.select(Template.id).where(Template.owner == user_id, unused).output(as_list=True)
            if own:
                await TemplateVersion.delete().where(TemplateVersion.template.is_in(own))
                await Template.delete().where(Template.id.is_in(own))
            await Template.update({Template.owner: None, Template.version: Template.version + 1}).where(
                Template.owner == user_id
            )
            await _RESERVE.one(id=user_id)
            await User.delete().where(User.id == user_id)
            await record("purge", "user", user_id)
    except (asyncpg.ForeignKeyViolationError, asyncpg.DeadlockDetectedError) as error:
        logger.warning("The account {} could not be purged; the next run tries again: {}", user_id, error)
        return False
    return True


async def _release_addresses() -> int:
    """Takes addresses from accounts that did not verify them in time, so that their owners can use them. The accounts
    stay: an earlier address was verified."""
    late = User.email_verified_at.is_null() & WhereRaw(
        "{} < now() - {}::int * interval '1 day'", User.email_changed_at, VERIFICATION_DAYS
    )
    none: dict[Any, Any] = {User.email: None, User.email_key: None, User.email_changed_at: None}
    async with DB.transaction():
        change = User.update(none | {User.version: User.version + 1, User.updated_at: NOW}).where(late)
        released = await change.returning(User.id)
        for row in released:
            await record("release_email", "user", row["id"])
    return len(released)


async def _thin_histories() -> int:
    """Histories that are too long since the setting was lowered, up to 100 revisions in a transaction."""
    count = 0
    for row in await _TOO_LONG.all(most=settings.revisions_kept):
        done = _THINNED_AT_ONCE
        while done == _THINNED_AT_ONCE:
            async with DB.transaction():
                locked = (
                    await Character.select(Character.id).where(Character.id == row["id"]).lock_rows("NO KEY UPDATE")
                )
                done = await thin_revisions(row, at_once=_THINNED_AT_ONCE) if locked else 0
            count += done
    return count


async def _delete(table: type[Table], condition: Any) -> int:
    return len(await table.delete().where(condition).returning(table._meta.primary_key))
