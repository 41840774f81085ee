from copy import copy
from typing import Any

import msgspec
from msgspec import UNSET
from piccolo.querystring import QueryString

from service.audit.actions import Action
from service.audit.queries import record
from service.callers import NO_LONGER_VALID, Caller
from service.database.engine import DB
from service.database.failures import on_constraint
from service.database.prepared import NOW, Param, Prepared, insert, json_object, sql, utc, written
from service.errors import Conflict, NotFound, Unauthorized, Unprocessable, Violation
from service.etags import check_if_match
from service.identifiers import uuid7
from service.inputs import differing, given
from service.mail.outbox import Kind, insert_message, queue_message
from service.media.queries import picture_fields
from service.settings import settings
from service.users.credentials import confirm_password, refused_password
from service.users.passwords import check_password, hash_password
from service.users.schemas import (
    RESERVED_USERNAMES,
    UserCreate,
    UserUpdate,
    account_key,
    name_or_id,
    normal_email,
)
from service.users.scopes import is_active
from service.users.tables import EMAIL_LENGTH, User
from service.users.taken import TAKEN, all_taken

_NEEDS_CURRENT = "Changing the e-mail address needs the current password."


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


def _own_view() -> Any:
    return User.select(User.id, User.version, json_object(own_fields()).as_alias("item"))


_CREATE = Prepared(
    lambda: written(
        insert(User, "id", "email", "email_key", "username", "password_hash", "display_name", "must_verify"),
        _own_view(),
        also=sql(insert_message("id", kind="verification", address=Param("email_key"))),
    )
)
_IS_RESERVED = Prepared(
    lambda: QueryString(
        "SELECT EXISTS (SELECT FROM reserved_usernames WHERE username = {} AND until > now())", Param("username")
    )
)
_GET_ME = Prepared(lambda: _own_view().where(User.id == Param("id")))
_GET_PROFILE = Prepared(
    lambda: User.select(json_object(profile_fields()).as_alias("item")).where(
        (User.username == Param("username")) | (User.id == Param("id")), is_active()
    )
)


async def check_sign_up(data: UserCreate) -> None:
    """Raises Unprocessable for what no account may have, whichever others exist."""
    if data.username in RESERVED_USERNAMES:
        raise Unprocessable.of([Violation("This username is reserved.", pointer="/username")])
    _email_key(_normal_email(data.email))
    await check_password(data.password, {data.email, data.username, data.display_name}, "/password")


async def create_user(data: UserCreate) -> Any:
    """Raises Conflict when the e-mail address, in any spelling, has an account, or the username has or had one; with
    both violations if both are taken. The caller has called ``check_sign_up``."""
    password_hash = await hash_password(data.password)
    try:
        return await _insert_user(data, password_hash)
    except Conflict as conflict:
        raise await all_taken(conflict, _email_key(data.email), data.username) from None


async def _insert_user(data: UserCreate, password_hash: str) -> Any:
    with on_constraint(TAKEN):
        async with DB.transaction():
            row = await _CREATE.one(
                id=uuid7(),
                email=_normal_email(data.email),
                email_key=_email_key(data.email),
                username=data.username,
                password_hash=password_hash,
                display_name=data.display_name,
                must_verify=settings.sends_mail,
            )
            # After the row exists: the insertion waits for a purge of the same username
            if await _IS_RESERVED.value(username=data.username):
                raise copy(TAKEN["one_account_per_username"])
            return row


async def get_account(user: Caller) -> Any:
    """The user's id, password hash, email, whether it is verified, username and display name. Raises Unauthorized if
    the account was purged."""
    columns = (User.id, User.password_hash, User.email, User.email_verified_at, User.username, User.display_name)
    return _existing(await User.select(*columns).where(User.id == user.id).first())


async def get_me(user: Caller) -> Any:
    """Raises Unauthorized if the account was purged."""
    return _existing(await _GET_ME.one(id=user.id))


async def lock_me(user: Caller) -> Any:
    """The columns that a change of the account needs, locked until the transaction ends. Raises Unauthorized if the
    account was purged."""
    columns = (User.version, User.username, User.avatar, User.password_hash, User.display_name, User.bio, User.links)
    return _existing(
        await User.select(*columns, User.email, User.email_key, User.email_verified_at, User.email_changed_at)
        .where(User.id == user.id)
        .lock_rows("NO KEY UPDATE")  # which does not wait for a bulk request of the user
        .first()
    )


def _existing(row: Any) -> Any:
    if row is None:
        raise Unauthorized(NO_LONGER_VALID)
    return row


async def get_user(name: str) -> Any:
    """The public profile of the user with this username, in any case, or this id. Raises NotFound also for a suspended
    user."""
    if row := await _GET_PROFILE.one(**name_or_id(name)):
        return row
    raise NotFound


async def without_same_email(user: Caller, data: UserUpdate) -> UserUpdate:
    """Removes the user's own e-mail address, which is no change, unless a password says that one is meant. Raises
    Unprocessable for null unless the account has no address."""
    if data.email is UNSET or (data.email is not None and data.current_password not in (UNSET, None)):
        return data
    if data.email == (await get_account(user))["email"]:
        return msgspec.structs.replace(data, email=UNSET)
    if data.email is None:
        raise Unprocessable.of([Violation("An e-mail address can be replaced, but not removed.", pointer="/email")])
    return data


async def update_me(user: Caller, data: UserUpdate, if_match: str | None) -> Any:
    """Changes the given fields; null empties one. Raises Forbidden for a new e-mail when the password is wrong, or
    changes meanwhile."""
    changes = given(data, display_name="", bio="", links=[])
    password, checked, email_key = changes.pop("current_password", None), None, ""
    if "email" in changes:
        changes["email"] = _normal_email(changes["email"])
        email_key = _email_key(changes["email"])
        checked = (await get_account(user))["password_hash"]
        refusal = refused_password(_NEEDS_CURRENT, "Is required." if password is None else "Is not right.")
        await confirm_password(user, checked, password or "", refusal)
    if "links" in changes:
        changes["links"] = msgspec.json.encode(changes["links"]).decode()
    async with DB.transaction():
        row = await lock_me(user)
        check_if_match(if_match, user.id, row["version"])
        if "email" in changes and row["password_hash"] != checked:
            raise refused_password(_NEEDS_CURRENT)
        values: dict[Any, Any] = differing(changes, row)
        if is_new_email := "email" in values:
            values |= {User.email_verified_at: None, User.email_changed_at: _changed_since(row, email_key)}
            values[User.email_key] = email_key
        if values:
            with on_constraint(TAKEN):
                await User.update(values | {User.version: User.version + 1, User.updated_at: NOW}).where(
                    User.id == user.id
                )
        if is_new_email:
            await queue_message("verification", email_key)
            await notify("email_changed", row)
            await record(Action.CHANGE_EMAIL, "user", user.id, member=user.id)
        return await get_me(user)


def _changed_since(old: Any, new_key: str) -> Any:
    """The time from which a new address must be verified; None if the service sends no e-mails. To spell an address in
    another way does not extend the time."""
    if not settings.sends_mail:
        return None
    return (old["email_changed_at"] if old["email_key"] == new_key else None) or NOW


async def notify(kind: Kind, account: Any) -> None:
    """Queues a notice of a security event in the open transaction, if the address of ``account`` is verified: any
    other one may belong to somebody else."""
    if account["email"] and account["email_verified_at"] is not None:
        await queue_message(kind, account["email"], account["username"])


def _normal_email(email: str) -> str:
    """Raises Unprocessable for an address that is none any more once it is normalised."""
    if normal := normal_email(email):
        return normal
    raise Unprocessable.of([Violation("Must be an e-mail address.", pointer="/email")])


def _email_key(email: str) -> str:
    """Raises Unprocessable for an address that is too long once normalised: one character may become eighteen."""
    key = account_key(email)
    if len(key) > EMAIL_LENGTH:
        raise Unprocessable.of([Violation("Must be an e-mail address.", pointer="/email")])
    return key
