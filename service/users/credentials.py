"""Accounts by login and password, and the locks that keep them as they were checked."""

from uuid import UUID

from piccolo.querystring import QueryString

from service.audit.actions import Action
from service.audit.queries import record
from service.callers import NO_LONGER_VALID, Caller
from service.database.prepared import Param, Prepared
from service.errors import Forbidden, Unauthorized, Violation
from service.limits.backoff import Confirmation
from service.users.passwords import hash_password, password_matches
from service.users.schemas import account_key
from service.users.scopes import is_active
from service.users.tables import User

_KEEP = Prepared(lambda: QueryString("SELECT FROM users WHERE id = {} FOR KEY SHARE", Param("id")))


async def find_credentials(login: str) -> tuple[UUID | None, str | None, bool]:
    """Id, password hash and whether the account is active, of the account with this e-mail or username, if any."""
    key = account_key(login)
    row = (
        await User.select(User.id, User.password_hash, User.status)
        .where((User.email_key == key) | (User.username == key))
        .first()
    )
    return (row["id"], row["password_hash"], row["status"] == "active") if row else (None, None, False)


async def lock_account(user_id: UUID | None, password_hash: str | None) -> bool:
    """Returns whether the account is active and has this password hash, and locks it until the transaction ends.

    Without the lock, a sign-in could create a session just after a password change has ended all sessions, and requests
    at once could create more keys or sessions together than an account may have."""
    account = (User.id == user_id) & (User.password_hash == password_hash) & is_active()
    return bool(await User.select(User.id).where(account).lock_rows("NO KEY UPDATE").first())


async def keep_user(user_id: UUID | None) -> None:
    """Locks the user's row, so that a suspension or a purge waits until the transaction ends. It comes before all other
    locks (see service/characters/locks.py). Raises Unauthorized if the account was purged."""
    if await _KEEP.one(id=user_id) is None:
        raise Unauthorized(NO_LONGER_VALID)


async def rehash_password(user_id: UUID | None, outdated: str, password: str) -> None:
    """Stores a hash with the current settings, unless the password was changed meanwhile."""
    password_hash = await hash_password(password)
    await User.update({User.password_hash: password_hash}).where(User.id == user_id, User.password_hash == outdated)


def refused_password(detail: str = "", fault: str = "Is not right.", member: str = "current_password") -> Forbidden:
    """The refusal of a request whose body has no, or a wrong, password as its ``member``."""
    return Forbidden(detail or "The current password is not right.", errors=[Violation(fault, pointer=f"/{member}")])


async def confirm_password(
    user: Caller, password_hash: str | None, password: str, refusal: Forbidden | None = None
) -> None:
    """Raises ``refusal``, by default ``refused_password()``, for a wrong password, and TooManyRequests after too many
    failures, so that a stolen session cannot be used to guess the password."""
    attempt = Confirmation(user.id)
    await attempt.begin()
    if not await password_matches(password_hash, password):
        await record(Action.REFUSE_PASSWORD, "user", user.id, member=user.id)
        raise refusal or refused_password()
    await attempt.succeed()
