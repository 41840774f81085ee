"""Who works in the admin site: operators, with Piccolo's table of users, and their sessions.

Piccolo Admin asks the two tables to sign in, to tell who a cookie belongs to, and to sign out.
"""

import asyncio
import hmac
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from piccolo.apps.user.tables import BaseUser
from piccolo.columns import UUID, Bytea, Integer, Timestamptz
from piccolo.columns.defaults import TimestamptzNow
from piccolo.constraints import Unique
from piccolo.table import Table

from service.audit.queries import record
from service.auth.secrets import digest
from service.database.engine import DB
from service.identifiers import uuid7

IDLE = timedelta(hours=1)
LONGEST = timedelta(hours=12)


class Operator(BaseUser, tablename="piccolo_user"):
    """Piccolo's own table of users, with the hashing, some 200 ms of CPU, in a thread."""

    @classmethod
    async def login(cls, username: Any, password: Any) -> int | None:
        """The id of the active operator with this name and password, if any. The password form asks here, too."""
        operator = None
        if _is_text(username, cls.username.length) and _is_text(password, cls._max_password_length):
            operator = (
                await cls.select(cls.id, cls.username, cls.password)
                .where(cls.username == username, cls.active.eq(True), cls.admin.eq(True))
                .first()
            )
            stored = operator["password"] if operator else _NOBODYS
            _, iterations, salt, _ = cls.split_stored_password(stored)
            hashed = await asyncio.to_thread(cls.hash_password, password, salt, int(iterations))
            if operator is not None and hmac.compare_digest(hashed, stored):
                if int(iterations) != cls._pbkdf2_iteration_count:
                    await cls._store_password(operator["id"], password)
                await cls.update({cls.last_login: datetime.now()}).where(cls.id == operator["id"])
                return int(operator["id"])
        await record("refuse_password", "operator", operator["id"] if operator else None)
        return None

    @classmethod
    async def update_password(cls, user: str | int, password: str) -> None:
        cls._validate_password(password)
        operator: Any = await cls.select(cls.id, cls.username).where(_named(user)).first()
        async with DB.transaction():
            await cls._store_password(operator["id"], password)
            await record("change_password", "operator", operator["id"], operator=operator["username"])

    @classmethod
    async def _store_password(cls, operator_id: int, password: str) -> None:
        hashed = await asyncio.to_thread(cls.hash_password, password)
        await cls.update({cls.password: hashed}).where(cls.id == operator_id)


def _named(user: str | int) -> Any:
    return Operator.username == user if isinstance(user, str) else Operator.id == user


def _is_text(given: Any, most: int | None) -> bool:
    return isinstance(given, str) and "\0" not in given and len(given) <= (most or 0)


# What an unknown name is compared with, so that it takes as long
_NOBODYS = f"pbkdf2_sha256${Operator._pbkdf2_iteration_count}$salt$of no password"


class OperatorSession(Table, db=DB, tablename="operator_sessions", help_text="Where operators are signed in."):
    """In place of piccolo_api's table, which keeps tokens in clear and looks them up without an index."""

    id = UUID(primary_key=True, default=None, null=False)
    digest = Bytea(default=b"", null=False, secret=True, help_text="SHA-256 of the token, which nobody keeps.")
    user_id = Integer(default=None, null=False, help_text="The operator's; Piccolo's name for it.")
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    expires_at = Timestamptz(default=None, null=False, help_text="Unless it is used before.")
    ends_at = Timestamptz(default=None, null=False, help_text="However much it is used.")

    one_operator_session_per_token = Unique([digest])

    token: str  # of a new one, for the cookie alone

    @classmethod
    async def create_session(cls, user_id: int, *_: Any, **__: Any) -> "OperatorSession":
        """Its expiry is ours to say."""
        token, now = secrets.token_urlsafe(32), datetime.now(UTC)
        ends: dict[str, Any] = {"expires_at": now + IDLE, "ends_at": now + LONGEST}
        session = cls(id=uuid7(), digest=digest(token), user_id=user_id, created_at=now, **ends)
        async with DB.transaction():
            await cls.insert(session)
            await record("sign_in", "operator", user_id, operator=await _name_of(user_id))
        session.token = token
        return session

    @classmethod
    async def get_user_id(cls, token: str, increase_expiry: timedelta | None = None) -> int | None:
        """The id of the operator behind ``token``, if any; whether that operator is still one, Piccolo Admin asks."""
        now = datetime.now(UTC)
        alive = (cls.digest == digest(token)) & (cls.expires_at > now) & (cls.ends_at > now)
        session = await cls.select(cls.id, cls.user_id, cls.expires_at).where(alive).first()
        if session is None:
            return None
        if session["expires_at"] < now + IDLE / 2:
            await cls.update({cls.expires_at: now + IDLE}).where(cls.id == session["id"])
        return int(session["user_id"])

    @classmethod
    async def remove_session(cls, token: str) -> None:
        async with DB.transaction():
            gone: Any = await cls.delete().where(cls.digest == digest(token)).returning(cls.user_id)
            if gone:
                operator_id = gone[0]["user_id"]
                await record("sign_out", "operator", operator_id, operator=await _name_of(operator_id))


async def _name_of(operator_id: int) -> str | None:
    operator = await Operator.select(Operator.username).where(Operator.id == operator_id).first()
    return operator["username"] if operator else None


def ended() -> Any:
    now = datetime.now(UTC)
    return (OperatorSession.expires_at < now) | (OperatorSession.ends_at < now)
