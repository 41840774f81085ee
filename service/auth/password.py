from typing import Any

from service.audit.actions import Action
from service.audit.queries import record
from service.auth.queries import delete_tokens
from service.auth.schemas import PasswordUpdate
from service.callers import Caller
from service.database.engine import DB
from service.database.prepared import NOW
from service.errors import Forbidden
from service.users.credentials import confirm_password, refused_password
from service.users.passwords import check_password, hash_password
from service.users.queries import get_account, notify
from service.users.tables import User

# The columns of an account that its member or an operator deleted; it is purged 30 days later
CLOSED: dict[Any, Any] = {User.status: "suspended", User.deleted_at: NOW}


async def update_password(user: Caller, data: PasswordUpdate) -> None:
    """Ends the user's other sessions. Raises Forbidden when the current password is wrong, or changes meanwhile."""
    account = await get_account(user)
    await confirm_password(user, account["password_hash"], data.current_password)
    own_words = {account["email"] or "", account["username"], account["display_name"]}
    await check_password(data.new_password, own_words, "/new_password")
    password_hash = await hash_password(data.new_password)
    async with DB.transaction():
        await _change_account(account, {User.password_hash: password_hash}, refused_password())
        await delete_tokens(user, kind="session", but=user.token_id)
        await notify("password_changed", account)
        await record(Action.CHANGE_PASSWORD, "user", user.id, member=user.id)


async def delete_account(user: Caller, password: str) -> None:
    """Suspends the account at once; it is purged 30 days later. Raises Forbidden when the password is wrong, or changes
    meanwhile."""
    account = await get_account(user)
    refusal = refused_password("The password is not right.", member="password")
    await confirm_password(user, account["password_hash"], password, refusal)
    async with DB.transaction():
        await _change_account(account, CLOSED, refusal)
        await delete_tokens(user)
        await record(Action.DELETE_USER, "user", user.id, member=user.id)


async def _change_account(account: Any, changes: dict[Any, Any], refusal: Forbidden) -> None:
    """Raises ``refusal`` when the password that was checked is no longer the account's: a reset must not be undone."""
    checked = (User.id == account["id"]) & (User.password_hash == account["password_hash"])
    if not await User.update(changes).where(checked).returning(User.id):
        raise refusal
