"""Operators suspend, reactivate and delete accounts."""

from uuid import UUID

from service.audit.actions import Action
from service.audit.queries import record
from service.auth.password import CLOSED
from service.auth.queries import delete_tokens
from service.callers import Caller
from service.database.engine import DB
from service.errors import NotFound
from service.users.tables import User


async def suspend_user(user_id: UUID) -> None:
    """Ends all tokens of the user, in other workers within five seconds; hides the user and what they own from others.
    Raises NotFound."""
    await _set_status(user_id, "suspended", Action.SUSPEND_USER)


async def reactivate_user(user_id: UUID) -> None:
    """Shows the user and what they own again; no token comes back. Raises NotFound also for a deleted account."""
    await _set_status(user_id, "active", Action.REACTIVATE_USER)


async def end_access(user_id: UUID) -> None:
    """Ends all sessions and API keys of the user, in other workers within five seconds."""
    async with DB.transaction():
        await delete_tokens(Caller(id=user_id))
        await record(Action.SIGN_OUT, "user", user_id)


async def close_account(user_id: UUID) -> None:
    """Leaves the account as its member's own request to delete it does. Raises NotFound if it is deleted already."""
    async with DB.transaction():
        if not await User.update(CLOSED).where(User.id == user_id, User.deleted_at.is_null()).returning(User.id):
            raise NotFound
        await delete_tokens(Caller(id=user_id))
        await record(Action.DELETE_USER, "user", user_id)


async def _set_status(user_id: UUID, status: str, action: Action) -> None:
    member = (User.id == user_id) & User.deleted_at.is_null()
    async with DB.transaction():
        if not await User.update({User.status: status}).where(member).returning(User.id):
            raise NotFound
        # Also when reactivated: another worker may have let a suspended user create a key for a few seconds.
        await delete_tokens(Caller(id=user_id))
        await record(action, "user", user_id)
