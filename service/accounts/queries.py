from typing import Any

from service.accounts.schemas import PasswordUpdate
from service.callers import Caller
from service.database import DB, NOW
from service.errors import Forbidden
from service.tokens.queries import delete_tokens
from service.users.passwords import hash_password, password_matches
from service.users.queries import check_password
from service.users.tables import User


async def update_password(user: Caller, data: PasswordUpdate) -> None:
    """Ends the member's other sessions. Raises Forbidden when the current password is not right."""
    account = await _account(user)
    if not await password_matches(account["password_hash"], data.current_password):
        raise Forbidden("The current password is not right.")
    check_password(data.new_password, {account["email"], account["username"]}, "/new_password")
    password_hash = await hash_password(data.new_password)
    async with DB.transaction():
        await User.update({User.password_hash: password_hash}).where(User.id == user.id)
        await delete_tokens(user, kind="session", but=user.token_id)


async def delete_account(user: Caller, password: str) -> None:
    """Suspends it at once; what is left of it is purged 30 days later. Raises Forbidden when the password is wrong."""
    account = await _account(user)
    if not await password_matches(account["password_hash"], password):
        raise Forbidden("The password is not right.")
    async with DB.transaction():
        await User.update({User.status: "suspended", User.deleted_at: NOW}).where(User.id == user.id)
        await delete_tokens(user)


async def _account(user: Caller) -> Any:
    return await User.select(User.password_hash, User.email, User.username).where(User.id == user.id).first()
