"""Operators of the admin site and their sessions.

Piccolo Admin calls methods of the two tables to sign in, to find the operator of a cookie, and to sign out.
"""

import hmac
import secrets
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from piccolo.apps.user.tables import BaseUser
from piccolo.columns import UUID, Bytea, Integer, Timestamptz
from piccolo.columns.combination import WhereRaw
from piccolo.columns.defaults import TimestamptzNow
from piccolo.constraints import Unique
from piccolo.table import Table
from piccolo_api.encryption.providers import EncryptionProvider
from starlette.exceptions import HTTPException

from service.admin.operator_passwords import check_operators_password, hash_password
from service.admin.second_factors import SecondFactor
from service.admin.sign_in_attempts import begin, has_session, is_text
from service.audit.actions import Action
from service.audit.queries import record
from service.auth.secrets import digest
from service.database.engine import DB
from service.identifiers import uuid7
from service.limits.backoff import SignIn
from service.log import REQUEST
from service.settings import settings
from service.users.schemas import PASSWORD_LENGTH

# The stored password that ``login`` found right in this request, for the change that follows it; none in commands
_checked: ContextVar[str | None] = ContextVar("_checked", default=None)
# The attempt of this request, when the password was right and the code of the second factor is still to be checked
_attempt: ContextVar[SignIn | None] = ContextVar("_attempt", default=None)
_has_code: ContextVar[bool] = ContextVar("_has_code", default=False)  # whether the code was right in this request

IDLE = timedelta(hours=1)
MAX_AGE = timedelta(hours=12)
SET_UP = "/admin/api/mfa-setup/"  # where operators set up a second factor
SET_UP_HEADER = "X-Second-Factor-Setup"


class Operator(BaseUser, tablename="piccolo_user"):
    """Piccolo's own table of users. A password is hashed in a thread, as it takes 200 ms of CPU time."""

    _min_password_length = PASSWORD_LENGTH

    @classmethod
    async def login(cls, username: Any, password: Any) -> int | None:
        """The id of the active operator with this name and password, or None. Also called by the password form. Raises
        HTTPException, which the site answers, after too many failures of the network or for the name."""
        operator = None
        if is_text(username, cls.username.length) and is_text(password, cls._max_password_length):
            operator = (
                await cls.select(cls.id, cls.username, cls.password)
                .where(cls.username == username, cls.active.eq(True), cls.admin.eq(True))
                .first()
            )
            attempt = await begin(username, operator["id"] if operator else None)
            stored = operator["password"] if operator else _UNUSABLE_PASSWORD
            _, iterations, salt, _ = cls.split_stored_password(stored)
            hashed = await hash_password(password, salt, int(iterations))
            if operator is not None and hmac.compare_digest(hashed, stored):
                if settings.second_factor_key and await SecondFactor.is_user_enrolled(operator["id"]):
                    _attempt.set(attempt)  # otherwise the right password would allow any number of codes
                else:
                    await attempt.succeed()
                if int(iterations) != cls._pbkdf2_iteration_count:
                    hashed = await hash_password(password)
                    async with DB.transaction():
                        if await cls._replace_password(operator["id"], stored, hashed):
                            await OperatorSession.keep(operator["id"], stored, hashed)
                _checked.set(hashed)
                return int(operator["id"])
        known = {"username": operator["username"]} if operator else {}
        by = operator["username"] if operator and has_session() else None
        await record(Action.REFUSE_PASSWORD, "operator", operator["id"] if operator else None, operator=by, **known)
        return None

    @classmethod
    async def update_password(cls, user: str | int, password: str) -> None:
        """Called by the password form, after ``login``. Raises HTTPException, which the site answers, for a password
        that is not allowed, and when the one that ``login`` checked was changed meanwhile."""
        named = cls.username == user if isinstance(user, str) else cls.id == user
        operator: Any = await cls.select(cls.id, cls.username, cls.email).where(named).first()
        try:
            await check_operators_password(password, operator["username"], operator["email"])
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        hashed = await hash_password(password)
        async with DB.transaction():
            if not await cls._replace_password(operator["id"], _checked.get(), hashed):
                raise HTTPException(422, "Incorrect password.")  # as Piccolo answers a wrong one
            await record(Action.CHANGE_PASSWORD, "operator", operator["id"], operator=operator["username"])
        if attempt := _attempt.get():  # the form's: with a second factor, `login` left it open
            await attempt.succeed()

    @classmethod
    async def _replace_password(cls, operator_id: int, checked: str | None, hashed: str) -> bool:
        """Returns False when ``checked`` is no longer the stored password; None stands for any."""
        change = cls.update({cls.password: hashed}).where(cls.id == operator_id)
        if checked is not None:
            change = change.where(cls.password == checked)
        return bool(await change.returning(cls.id))


async def use_code(operator_id: int, username: str, code: Any, provider: EncryptionProvider) -> bool:
    """Whether the code is right, after ``login`` found the password right. A wrong one counts as a wrong password."""
    if not await SecondFactor.authenticate(operator_id, code, provider):
        await record(Action.REFUSE_CODE, "operator", operator_id, operator=username)
        return False
    if attempt := _attempt.get():
        await attempt.succeed()
    _has_code.set(True)
    return True


async def await_code() -> None:
    """The password was right, and the site asks for the code: this is neither a failure nor a success."""
    if attempt := _attempt.get():
        await attempt.take_back()


# Stands in for an unknown operator's password, so that a refusal takes as long as for a known one
_UNUSABLE_PASSWORD = f"pbkdf2_sha256${Operator._pbkdf2_iteration_count}$salt$of no password"


class OperatorSession(Table, db=DB, tablename="operator_sessions", help_text="Sessions of operators."):
    """Replaces piccolo_api's table, which stores the tokens themselves and has no index on them."""

    id = UUID(primary_key=True, default=None, null=False)
    digest = Bytea(default=b"", null=False, secret=True, help_text="SHA-256 of the token; the token is not stored.")
    user_id = Integer(default=None, null=False, help_text="The operator; the name is Piccolo's.")
    password_digest = Bytea(
        default=b"", null=False, secret=True, help_text="SHA-256 of the stored password: its change ends the session."
    )
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
        async with DB.transaction():
            found: Any = await (
                Operator.select(Operator.username, Operator.password)
                .where(Operator.id == user_id, Operator.active.eq(True), Operator.admin.eq(True))
                .lock_rows("SHARE")
                .first()
            )
            # A change of the password ends the sessions: one that comes after this
            if found is None or found["password"] != _checked.get():
                raise HTTPException(401, "The password was changed meanwhile.")
            if not _has_code.get() and settings.second_factor_key and await SecondFactor.is_user_enrolled(user_id):
                raise HTTPException(401, "A second factor was added meanwhile.")
            opened_with = digest(found["password"])
            session = cls(
                id=uuid7(), digest=digest(token), user_id=user_id, password_digest=opened_with, created_at=now, **times
            )
            await cls.insert(session)
            # Piccolo's column has no time zone
            await Operator.update({Operator.last_login: now.replace(tzinfo=None)}).where(Operator.id == user_id)
            await record(Action.SIGN_IN, "operator", user_id, operator=found["username"])
        session.token = token
        return session

    @classmethod
    async def get_user_id(cls, token: str, increase_expiry: timedelta | None = None) -> int | None:
        """The id of the operator of ``token``, or None. A session of a former operator, or of a former password, ends.
        Raises HTTPException, which the site answers, when the operator has to set up a second factor first."""
        now = datetime.now(UTC)
        found = cls.digest == digest(token)
        is_alive = found & (cls.expires_at > now) & (cls.ends_at > now) & _is_current(True)
        session = await cls.select(cls.id, cls.user_id, cls.expires_at).where(is_alive).first()
        if session is None:
            await cls.delete().where(found & _is_current(False))  # it must not come back with the operator
            return None
        if settings.second_factor_required:
            await _check_second_factor(session["user_id"])
        if session["expires_at"] < now + IDLE / 2:
            await cls.update({cls.expires_at: now + IDLE}).where(cls.id == session["id"])
        return int(session["user_id"])

    @classmethod
    async def keep(cls, operator_id: int, former: str, stored: str) -> None:
        """Keeps the operator's sessions when the same password is stored in another way."""
        of_former = (cls.user_id == operator_id) & (cls.password_digest == digest(former))
        await cls.update({cls.password_digest: digest(stored)}).where(of_former)

    @classmethod
    async def remove_session(cls, token: str) -> None:
        async with DB.transaction():
            deleted: Any = await cls.delete().where(cls.digest == digest(token)).returning(cls.user_id)
            if deleted:
                operator_id = deleted[0]["user_id"]
                await record(Action.SIGN_OUT, "operator", operator_id, operator=await _find_username(operator_id))


async def _find_username(operator_id: int) -> str | None:
    operator = await Operator.select(Operator.username).where(Operator.id == operator_id).first()
    return operator["username"] if operator else None


async def _check_second_factor(operator_id: int) -> None:
    scope = REQUEST.get()
    if (scope and scope["path"] == SET_UP) or await SecondFactor.is_user_enrolled(operator_id):
        return
    raise HTTPException(403, "Set up a second factor first.", {SET_UP_HEADER: SET_UP})


def _is_current(current: bool) -> WhereRaw:
    """The condition whether the operator still is one and has the password that the session was opened with."""
    return WhereRaw(
        "EXISTS (SELECT FROM piccolo_user WHERE id = {} AND active AND admin"
        " AND sha256(convert_to(password, 'UTF8')) = {}) = {}",
        OperatorSession.user_id,
        OperatorSession.password_digest,
        current,
    )


def is_expired() -> Any:
    """The condition that a session has ended."""
    now = datetime.now(UTC)
    return (OperatorSession.expires_at < now) | (OperatorSession.ends_at < now) | _is_current(False)
