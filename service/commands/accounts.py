"""The part of ``piccolo service purge`` that deletes accounts, in steps of bounded work.

The first step closes the account for good, so that an interrupted purge goes on in the next run.
"""

from typing import Any
from uuid import UUID

from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.audit.actions import Action
from service.audit.queries import record
from service.auth.tables import Token
from service.characters.purging import BATCH, batched, clear
from service.characters.tables import TRASH_DAYS, Character
from service.commands.skipping import count_unless_held
from service.database.engine import DB
from service.database.prepared import Param, Prepared
from service.templates.tables import Template, TemplateVersion
from service.users.tables import RESERVED_DAYS, User

VERIFICATION_DAYS = 30  # after sign-up, or after the user changed it, in which an address must be verified
TOGETHER = 100  # characters that are cleared together

_RESERVE = Prepared(
    lambda: QueryString(
        "INSERT INTO reserved_usernames (username, until)"
        " SELECT username, now() + {}::int * interval '1 day' FROM users WHERE id = {}"
        " ON CONFLICT (username) DO UPDATE SET until = excluded.until",
        RESERVED_DAYS,
        Param("id"),
    )
)
_CLOSE = Prepared(
    lambda: QueryString(
        "UPDATE users SET status = 'suspended',"
        " deleted_at = least(deleted_at, now() - {}::int * interval '1 day' - interval '1 second') WHERE id = {}",
        TRASH_DAYS,
        Param("id"),
    )
)
_DELETE_CHARACTERS = Prepared(
    lambda: QueryString(
        "WITH locked AS (SELECT id FROM characters WHERE id = ANY({}::uuid[]) ORDER BY id FOR UPDATE)"
        " DELETE FROM characters USING locked WHERE characters.id = locked.id",
        Param("ids"),
    )
)
_DETACH_TEMPLATE_COPIES = batched(
    "SELECT id FROM templates WHERE forked_from = {} ORDER BY id LIMIT {} FOR NO KEY UPDATE",
    "UPDATE templates SET forked_from = NULL FROM batch WHERE templates.id = batch.id",
    "template",
)
_DISOWN_TEMPLATES = batched(
    "SELECT id FROM templates WHERE owner = {} ORDER BY id LIMIT {} FOR NO KEY UPDATE",
    # Without an owner, a public one would be among the platform's
    "UPDATE templates SET owner = NULL, version = version + 1,"
    " visibility = CASE visibility WHEN 'public' THEN 'unlisted' ELSE visibility END"
    " FROM batch WHERE templates.id = batch.id",
    "user",
)


async def purge_accounts() -> int:
    """Deletes accounts 30 days after they were closed, or after sign-up when no address was ever verified. Returns how
    many."""
    old = "{} < now() - {}::int * interval '1 day'"
    doomed = WhereRaw(old, User.deleted_at, TRASH_DAYS) | (
        User.must_verify.eq(True) & WhereRaw(old, User.created_at, VERIFICATION_DAYS)
    )
    found: Any = await User.select(User.id).where(doomed)
    ids = [row["id"] for row in found]
    return sum([await count_unless_held(f"The account {each}", _purge_account(each, doomed)) for each in ids])


async def _purge_account(user_id: UUID, doomed: Any) -> bool:
    """Deletes the account, but keeps its templates that characters of other users are pinned to, without an owner and
    in no list.

    Returns False when it is no longer ``doomed``. Raises ForeignKeyViolationError when such a character is created at
    the same time."""
    if not await _close(user_id, doomed):
        return False
    await _delete_characters(user_id)
    await _delete_templates(user_id)
    async with DB.transaction():
        await _RESERVE.one(id=user_id)
        await User.delete().where(User.id == user_id)
        await record(Action.PURGE_USER, "user", user_id)
    return True


async def _close(user_id: UUID, doomed: Any) -> bool:
    """Makes sure that nobody signs in or verifies the address while the account is being deleted."""
    async with DB.transaction() as transaction:
        if not await User.select(User.id).where(User.id == user_id, doomed).lock_rows("UPDATE").first():
            return False
        await _CLOSE.one(id=user_id)
        await Token.delete().where(Token.user == user_id)
        # Without this row, its trigger has nothing to count down for each character.
        await transaction.connection.execute('DELETE FROM user_usage WHERE "user" = $1', user_id)
    return True


async def _delete_characters(user_id: UUID) -> None:
    some = Character.select(Character.id).where(Character.owner == user_id).limit(TOGETHER).output(as_list=True)
    while ids := await some:
        await clear(ids)
        await _DELETE_CHARACTERS.one(ids=ids)


async def _delete_templates(user_id: UUID) -> None:
    """Each unused template in a transaction of its own, as service/characters/locks.py says. The others lose their
    owner."""
    unused = WhereRaw("NOT EXISTS (SELECT FROM characters WHERE template = {})", Template.id)
    for template_id in await Template.select(Template.id).where(Template.owner == user_id, unused).output(as_list=True):
        while await _DETACH_TEMPLATE_COPIES.value(template=template_id, batch=BATCH) == BATCH:
            pass
        async with DB.transaction():
            await Template.select(Template.id).where(Template.id == template_id).lock_rows("UPDATE")
            await TemplateVersion.delete().where(TemplateVersion.template == template_id)
            await Template.delete().where(Template.id == template_id)
    while await _DISOWN_TEMPLATES.value(user=user_id, batch=BATCH) == BATCH:
        pass
