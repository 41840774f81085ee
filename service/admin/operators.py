"""Operators of the admin site and their sessions.

Piccolo Admin calls methods of the two tables to sign in, to find the operator of a cookie, and to sign out.
"""

import asyncio
import hmac
import secrets
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from piccolo.apps.user.tables import BaseUser
from piccolo.columns import UUID, Bytea, Integer, Timestamptz
from piccolo.columns.defaults import TimestamptzNow
from piccolo.constraints import Unique
from piccolo.table import Table
from starlette.exceptions import HTTPException

from service.audit.queries import record
from service.auth.secrets import digest
from service.database.engine import DB
from service.database.held import check_no_connection
from service.errors import TooManyRequests
from service.identifiers import uuid7
from service.limits.backoff import SignIn
from service.log import REQUEST

# The stored password that ``login`` found right in this request, for the change that follows it; none in commands
_checked: ContextVar[str | None] = ContextVar("_checked", default=None)

IDLE = timedelta(hours=1)
MAX_AGE = timedelta(hours=12)


class Operator(BaseUser, tablename="piccolo_user"):
    """Piccolo's own table of users. A password is hashed in a thread, as it takes 200 ms of CPU time."""

    @classmethod
    async def login(cls, username: Any, password: Any) -> int | None:
        """The id of the active operator with this name and password, or None. Also called by the password form. Raises
        HTTPException, which the site answers, after too many failures of the network or for the name."""
        operator = None
        if _is_text(username, cls.username.length) and _is_text(password, cls._max_password_length):
            attempt = await _begin(username)
            operator = (
                await cls.select(cls.id, cls.username, cls.password)
                .where(cls.username == username, cls.active.eq(True), cls.admin.eq(True))
                .first()
            )
            stored = operator["password"] if operator else _UNUSABLE_PASSWORD
            _, iterations, salt, _ = cls.split_stored_password(stored)
            hashed = await _hash(password, salt, int(iterations))
            if operator is not None and hmac.compare_digest(hashed, stored):
                await attempt.succeed()
                if int(iterations) != cls._pbkdf2_iteration_count:
                    hashed = await _hash(password)
                    await cls._replace_password(operator["id"], stored, hashed)
                _checked.set(hashed)
                await cls.update({cls.last_login: datetime.now()}).where(cls.id == operator["id"])
                return int(operator["id"])
        await record("refuse_password", "operator", operator["id"] if operator else None)
        return None

    @classmethod
    async def update_password(cls, user: str | int, password: str) -> None:
        """Called by the password form, after ``login``, and by ``piccolo user change_password``.

        Refuses the form when the password that it checked was changed meanwhile."""
        cls._validate_password(password)
        operator: Any = await cls.select(cls.id, cls.username).where(_is_operator(user)).first()
        hashed = await _hash(password)
        async with DB.transaction():
            if not await cls._replace_password(operator["id"], _checked.get(), hashed):
                raise HTTPException(422, "Incorrect password.")  # as Piccolo answers a wrong one
            await record("change_password", "operator", operator["id"], operator=operator["username"])

    @classmethod
    async def _replace_password(cls, operator_id: int, checked: str | None, hashed: str) -> bool:
        """Returns False when ``checked`` is no longer the stored password; None stands for any."""
        change = cls.update({cls.password: hashed}).where(cls.id == operator_id)
        if checked is not None:
            change = change.where(cls.password == checked)
        return bool(await change.returning(cls.id))


async def _begin(username: str) -> SignIn:
    """An attempt of this request. Members' failures count for the network, too."""
    scope = REQUEST.get()
    address = scope["client"][0] if scope and scope.get("client") else "-"
    attempt = SignIn(f"operator {username}", address)
    try:
        await attempt.begin(known=False)
    except TooManyRequests as error:
        raise HTTPException(error.status, error.detail, dict(error.headers)) from None
    return attempt


async def _hash(password: str, salt: str = "", iterations: int | None = None) -> str:
    check_no_connection("Hashing a password")
    return await asyncio.to_thread(Operator.hash_password, password, salt, iterations)


def _is_operator(user: str | int) -> Any:
    return Operator.username == user if isinstance(user, str) else Operator.id == user


def _is_text(value: Any, max_length: int | None) -> bool:
    return isinstance(value, str) and "\0" not in value and len(value) <= (max_length or 0)


# Stands in for an unknown operator's password, so that a refusal takes as long as for a known one
_UNUSABLE_PASSWORD = f"pbkdf2_sha256${Operator._pbkdf2_iteration_count}$salt$of no password"


class OperatorSession(Table, db=DB, tablename="operator_sessions", help_text="Sessions of operators."):
    """Replaces piccolo_api's table, which stores the tokens themselves and has no index on them."""

    id = UUID(primary_key=True, default=None, null=False)
    digest = Bytea(default=b"", null=False, secret=True, help_text="SHA-256 of the token; the token is not stored.")
    user_id = Integer(default=None, null=False, help_text="The operator; the name is Piccolo's.")
    created_at = Timestamptz(default=TimestamptzNow(), null=False)
    expires_at = Timestamptz(default=None, null=False, help_text="The end of an idle session; moves on with use.")
    ends_at = Timestamptz(default=None, null=False, help_text="The end of any session.")

    one_operator_session_per_token = Unique([digest])

    token: str  # set on a new session only, for the cookie

    @classmethod
    async def create_session(cls, user_id: int, *_: Any, **__: Any) -> "OperatorSession":
        """A new session. Piccolo Admin passes an expiry, too, which is not used."""
        token, now = secrets.token_urlsafe(32), datetime.now(UTC)
        times: dict[str, Any] = {"expires_at": now + IDLE, "ends_at": now + MAX_AGE}
        session = cls(id=uuid7(), digest=digest(token), user_id=user_id, created_at=now, **times)
        async with DB.transaction():
            if (
                checked := _checked.get()
            ) is not None:  # a change of the password ends the sessions: it comes after this
                same = (Operator.id == user_id) & (Operator.password == checked)
                if not await Operator.select(Operator.id).where(same).lock_rows("SHARE").first():
                    raise HTTPException(401, "The password was changed meanwhile.")
            await cls.insert(session)
            await record("sign_in", "operator", user_id, operator=await _find_username(user_id))
        session.token = token
        return session

    @classmethod
    async def get_user_id(cls, token: str, increase_expiry: timedelta | None = None) -> int | None:
        """The id of the operator of ``token``, or None. Piccolo Admin checks that the operator is still active."""
        now = datetime.now(UTC)
        is_valid = (cls.digest == digest(token)) & (cls.expires_at > now) & (cls.ends_at > now)
        session = await cls.select(cls.id, cls.user_id, cls.expires_at).where(is_valid).first()
        if session is None:
            return None
        if session["expires_at"] < now + IDLE / 2:
            await cls.update({cls.expires_at: now + IDLE}).where(cls.id == session["id"])
        return int(session["user_id"])

    @classmethod
    async def remove_session(cls, token: str) -> None:
        async with DB.transaction():
            deleted: Any = await cls.delete().where(cls.digest == digest(token)).returning(cls.user_id)
            if deleted:
                operator_id = deleted[0]["user_id"]
                await record("sign_out", "operator", operator_id, operator=await _find_username(operator_id))


async def _find_username(operator_id: int) -> str | None:
    operator = await Operator.select(Operator.username).where(Operator.id == operator_id).first()
    return operator["username"] if operator else None


def is_expired() -> Any:
    """The condition that a session has ended."""
    now = datetime.now(UTC)
    return (OperatorSession.expires_at < now) | (OperatorSession.ends_at < now)
