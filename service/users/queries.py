from typing import Any
from uuid import UUID

import msgspec
from piccolo.querystring import QueryString

from service.audit.queries import Action, record
from service.callers import Caller
from service.database.engine import DB, on_constraint
from service.database.prepared import NOW, Param, Prepared, insert, json_object, utc, written
from service.errors import Conflict, Forbidden, NotFound, TooManyRequests, Unprocessable, Violation
from service.etags import check_if_match
from service.identifiers import uuid7
from service.limits.backoff import Attempts
from service.mail.outbox import insert_message, queue_message
from service.media.queries import picture_fields
from service.schemas import given
from service.users.passwords import check_password, hash_password, password_matches
from service.users.schemas import RESERVED_USERNAMES, UserCreate, UserUpdate, folded, is_username
from service.users.tables import EMAIL_LENGTH, User

_confirmations = Attempts(free=5, longest=300)


def profile_fields(user: Any = User) -> dict[str, Any]:
    """The public fields of a user. ``user`` is the table or a foreign key to it."""
    return {
        "id": user.id,
        "username": user.username,
        "display_name": user.display_name,
        "bio": user.bio,
        "links": user.links,
        "avatar": picture_fields(user.avatar, QueryString("'/v1/users/' || {} || '/avatar'", user.username)),
        "created_at": utc(user.created_at),
    }


def own_fields(user: Any = User) -> dict[str, Any]:
    """The fields that users see of themselves."""
    return profile_fields(user) | {
        "email": user.email,
        "email_verified": QueryString("{} IS NOT NULL", user.email_verified_at),
        "version": user.version,
        "updated_at": utc(user.updated_at),
    }


_TAKEN = {
    "one_account_per_email": Conflict("This e-mail address has an account already."),
    "one_account_per_username": Conflict("This username is taken."),
}


_UNCONFIRMED = "Changing the e-mail address needs the current password."


def _own_view() -> Any:
    return User.select(User.id, User.version, json_object(own_fields()).as_alias("item"))


_CREATE = Prepared(
    lambda: written(
        insert(User, "id", "email", "email_key", "username", "password_hash", "display_name"),
        _own_view(),
        also=insert_message("id", kind="verification", address=Param("email_key")),
    )
)
_GET_ME = Prepared(lambda: _own_view().where(User.id == Param("id")))
_GET_PROFILE = Prepared(
    lambda: User.select(json_object(profile_fields()).as_alias("item")).where(
        User.username == Param("username"), User.status == "active"
    )
)


async def create_user(data: UserCreate) -> Any:
    """Raises Conflict when the e-mail address (whatever its case) or the username has an account."""
    if data.username in RESERVED_USERNAMES:
        raise Unprocessable.of([Violation("This username is reserved.", pointer="/username")])
    await check_password(data.password, {data.email, data.username, data.display_name}, "/password")
    with on_constraint(_TAKEN):
        return await _CREATE.one(
            id=uuid7(),
            email=data.email,
            email_key=_email_key(data.email),
            username=data.username,
            password_hash=await hash_password(data.password),
            display_name=data.display_name,
        )


async def get_me(user: Caller) -> Any:
    return await _GET_ME.one(id=user.id)


async def get_user(username: str) -> Any:
    """The public profile. Raises NotFound also for a suspended user."""
    if is_username(username) and (row := await _GET_PROFILE.one(username=username)):
        return row
    raise NotFound


async def update_me(user: Caller, data: UserUpdate, if_match: str | None) -> Any:
    """Changes the given fields; null empties one. Raises Forbidden for a new e-mail without the right password."""
    changes: dict[Any, Any] = given(data, display_name="", bio="", links=[])
    password = changes.pop("current_password", "")
    if "links" in changes:
        changes["links"] = msgspec.json.encode(changes["links"]).decode()
    confirmed: Any = None
    if "email" in changes:
        confirmed = await _credentials(user).first()
        check_if_match(if_match, user.id, confirmed["version"])
        await confirm_password(user, confirmed["password_hash"], password, _UNCONFIRMED)
        changes["email_key"] = _email_key(changes["email"])
    async with DB.transaction():
        row: Any = await _credentials(user).lock_rows("UPDATE").first()
        check_if_match(if_match, user.id, row["version"])
        if confirmed and confirmed["password_hash"] != row["password_hash"]:  # it was changed meanwhile
            raise Forbidden(_UNCONFIRMED)
        if changes:
            with on_constraint(_TAKEN):
                await User.update({**changes, User.version: User.version + 1, User.updated_at: NOW}).where(
                    User.id == user.id
                )
        if "email" in changes and changes["email"] != row["email"]:
            await _notify_of_new_email(user, row["email"], row["username"], changes["email_key"])
        if "email" in changes:
            await record("change_email", "user", user.id, member=user.id)
        return await get_me(user)


def _credentials(user: Caller) -> Any:
    return User.select(User.version, User.password_hash, User.email, User.username).where(User.id == user.id)


async def _notify_of_new_email(user: Caller, old: str | None, username: str, new_key: str) -> None:
    """Queues a verification for the new address, and a notice to the old one."""
    await User.update({User.email_verified_at: None}).where(User.id == user.id)
    await queue_message("verification", new_key)
    if old:
        await queue_message("email_changed", old, username)


async def confirm_password(user: Caller, password_hash: str | None, password: str, otherwise: str) -> None:
    """Raises Forbidden with the text ``otherwise`` for a wrong password, and TooManyRequests after too many failures,
    so that a stolen session cannot be used to guess the password."""
    key = str(user.id)
    if wait := _confirmations.wait(key):
        raise TooManyRequests(headers={"Retry-After": str(wait)})
    _confirmations.begin(key)
    if not await password_matches(password_hash, password):
        raise Forbidden(otherwise)
    _confirmations.forget(key)


def _email_key(email: str) -> str:
    """Raises Unprocessable for an address that is too long once normalised: one character may become eighteen."""
    key = folded(email)
    if len(key) > EMAIL_LENGTH:
        raise Unprocessable.of([Violation("Must be an e-mail address.", pointer="/email")])
    return key


async def suspend_user(username: str, operator: str) -> None:
    """Its tokens stop working, in other workers within five seconds. Raises NotFound."""
    await _set_status(username, "suspended", "suspend", operator)


async def reactivate_user(username: str, operator: str) -> None:
    """Raises NotFound also for a deleted account."""
    await _set_status(username, "active", "reactivate", operator)


async def _set_status(username: str, status: str, action: Action, operator: str) -> None:
    if not is_username(username):
        raise NotFound
    member = (User.username == username) & User.deleted_at.is_null()
    async with DB.transaction():
        found: Any = await User.update({User.status: status}).where(member).returning(User.id)
        if not found:
            raise NotFound
        await record(action, "user", found[0]["id"], operator=operator)


async def find_credentials(login: str) -> tuple[UUID | None, str | None, bool]:
    """Id, password hash and whether the account is active, of the account with this e-mail or username, if any."""
    key = folded(login)
    row = (
        await User.select(User.id, User.password_hash, User.status)
        .where((User.email_key == key) | (User.username == key))
        .first()
    )
    return (row["id"], row["password_hash"], row["status"] == "active") if row else (None, None, False)


async def lock_account(user_id: UUID | None, password_hash: str | None) -> bool:
    """Returns whether the account is active and has this password hash, and locks it until the transaction ends.

    Without the lock, a sign-in could create a session just after a password change has ended all sessions."""
    account = (User.id == user_id) & (User.password_hash == password_hash) & (User.status == "active")
    return bool(await User.select(User.id).where(account).lock_rows("SHARE").first())


async def rehash_password(user_id: UUID | None, outdated: str, password: str) -> None:
    """Stores a hash with the current settings, unless the password was changed meanwhile."""
    password_hash = await hash_password(password)
    await User.update({User.password_hash: password_hash}).where(User.id == user_id, User.password_hash == outdated)
