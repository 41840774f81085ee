"""``piccolo service purge``: deletes expired rows. Run it once a day."""

from typing import Any
from uuid import UUID

import asyncpg
from loguru import logger
from piccolo.columns.combination import WhereRaw
from piccolo.table import Table

from service.admin.operators import OperatorSession, is_expired
from service.audit.queries import purge_entries, record
from service.auth.email_links import ENDED as ENDED_EMAIL_TOKEN
from service.auth.tables import EmailToken, Token
from service.characters.tables import TRASH_DAYS, Character
from service.database.engine import DB
from service.idempotency.queries import ENDED
from service.idempotency.tables import IdempotencyKey
from service.mail.outbox import OVERDUE
from service.mail.tables import Message
from service.settings import settings
from service.templates.tables import Template, TemplateVersion
from service.users.tables import User


async def purge() -> None:
    """Delete trash and deleted accounts after 30 days, and expired tokens, messages, sessions and audit entries."""
    for name, count in (await purge_everything()).items():
        print(f"{name}: {count} deleted")  # noqa: T201 (a command's answer)


async def purge_everything() -> dict[str, int]:
    """Returns how many rows of each kind were deleted."""
    return {
        "trash": await _delete(
            Character, WhereRaw("{} < now() - {}::int * interval '1 day'", Character.deleted_at, TRASH_DAYS)
        ),
        "tokens": await _delete(Token, _ended()),
        "email tokens": await _delete(EmailToken, ENDED_EMAIL_TOKEN),
        "messages": await _delete(Message, OVERDUE),
        "operators' sessions": await _delete(OperatorSession, is_expired()),
        "idempotency keys": await _delete(IdempotencyKey, ENDED),
        "accounts": await _purge_accounts(),
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


async def _purge_accounts() -> int:
    left: Any = await User.select(User.id).where(
        WhereRaw("{} < now() - {}::int * interval '1 day'", User.deleted_at, TRASH_DAYS)
    )
    return sum([await _purge_account(row["id"]) for row in left])


async def _purge_account(user_id: UUID) -> bool:
    """Deletes the account, but keeps its templates that characters of other users are pinned to, without an owner.

    Returns False when such a character is created at the same time; the next run tries again."""
    try:
        async with DB.transaction() as transaction:
            # Without this row, its trigger has nothing to count down for each character.
            await transaction.connection.execute('DELETE FROM user_usage WHERE "user" = $1', user_id)
            await Character.delete().where(Character.owner == user_id)
            unused = WhereRaw("NOT EXISTS (SELECT FROM characters WHERE template = {})", Template.id)
            doomed = await Template.select(Template.id).where(Template.owner == user_id, unused).output(as_list=True)
            if doomed:
                await TemplateVersion.delete().where(TemplateVersion.template.is_in(doomed))
                await Template.delete().where(Template.id.is_in(doomed))
            await Template.update({Template.owner: None, Template.version: Template.version + 1}).where(
                Template.owner == user_id
            )
            await User.delete().where(User.id == user_id)
            await record("purge", "user", user_id)
    except asyncpg.ForeignKeyViolationError as error:
        logger.warning("The account {} could not be purged; the next run tries again: {}", user_id, error)
        return False
    return True


async def _delete(table: type[Table], condition: Any) -> int:
    return len(await table.delete().where(condition).returning(table._meta.primary_key))
