from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, get_args
from uuid import UUID

from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.audit.actions import Action
from service.audit.queries import record
from service.audit.tables import DEVICE_LENGTH
from service.auth.schemas import CurrentToken, SessionCreate
from service.auth.secrets import Kind, digest, new_token
from service.auth.tables import ADDRESS_LENGTH, Token
from service.callers import Caller, Scope
from service.database.engine import DB
from service.database.prepared import NOW, Param, Prepared, insert, json_object, utc, written
from service.errors import NotFound, Unauthorized
from service.identifiers import masked, uuid7
from service.limits.backoff import SignIn
from service.settings import settings
from service.users.credentials import find_credentials, lock_account, rehash_password
from service.users.passwords import is_outdated, password_matches
from service.users.queries import own_fields
from service.users.schemas import Owner, account_key
from service.users.scopes import is_active

MAX_SESSIONS = 100  # of one user

_IDLE = timedelta(days=settings.session_idle_days)

_NOT_RIGHT = "The login or the password is not right."

SHOWN_ONCE = {"token": QueryString("{}::text", Param("token"))}

SESSION: dict[str, Any] = {
    "id": Token.id,
    "device": Token.device,
    "address": Token.address,
    "created_at": utc(Token.created_at),
    "expires_at": utc(Token.expires_at),
    "last_used_at": utc(Token.last_used_at),
}


class Used(NamedTuple):
    """A valid token's caller, and the last use that is stored."""

    caller: Caller
    last_used_at: datetime | None


# A session ends when it expires or is idle for too long; an API key when it expires, if ever.
ALIVE = WhereRaw(
    "({} IS NULL OR {} > now()) AND ({} = 'key' OR {} > now() - {}::interval)",
    Token.expires_at,
    Token.expires_at,
    Token.kind,
    Token.last_used_at,
    _IDLE,
)
ENDED = WhereRaw("NOT ({})", ALIVE.querystring)


def own_tokens(kind: Kind) -> Any:
    return (Token.user == Param("user")) & (Token.kind == kind) & ALIVE


_CREATE_SESSION = Prepared(
    lambda: written(
        insert(Token, "id", "user", "digest", "device", "address", "expires_at", kind="session", last_used_at=NOW),
        Token.select(
            json_object(
                {
                    "id": Token.id,
                    **SHOWN_ONCE,
                    "expires_at": utc(Token.expires_at),
                    "user": json_object(own_fields(Token.user)),
                }
            ).as_alias("item")
        ),
    )
)
_END_OLDEST_SESSIONS = Prepared(
    lambda: Token.delete().where(
        Token.user == Param("user"),
        Token.kind == "session",
        WhereRaw(
            "{} <= (SELECT id FROM tokens WHERE \"user\" = {} AND kind = 'session' ORDER BY id DESC LIMIT 1 OFFSET {})",
            Token.id,
            Param("user"),
            Param("kept"),
        ),
    )
)
_IS_KNOWN = Prepared(
    lambda: QueryString(
        "SELECT EXISTS (SELECT FROM tokens WHERE \"user\" = {} AND kind = 'session' AND address = {})",
        Param("user"),
        Param("address"),
    )
)
_FIND = Prepared(
    lambda: Token.select(
        Token.id,
        Token.kind,
        Token.scopes,
        Token.expires_at,
        Token.last_used_at,
        Token.user.id.as_alias("user_id"),
        Token.user.username.as_alias("username"),
    ).where(Token.digest == Param("digest"), is_active(Token.user), ALIVE)
)
_VALID = Prepared(
    lambda: Token.select(Token.id).where(
        WhereRaw("{} = ANY({}::uuid[])", Token.id, Param("tokens")), is_active(Token.user), ALIVE
    )
)
_LIST_SESSIONS = Prepared(
    lambda: (
        Token.select(
            json_object(SESSION | {"current": QueryString("{} = {}", Token.id, Param("current"))}).as_alias("item")
        )
        .where(own_tokens("session"))
        .order_by(Token.id, ascending=False)
    )
)


async def valid_tokens(tokens: list[UUID]) -> set[UUID]:
    """Returns the ids of the tokens that are still valid."""
    return {row["id"] for row in await _VALID.all(tokens=tokens)}


async def create_session(data: SessionCreate, device: str, address: str) -> tuple[UUID, Any]:
    """The session's id and row. Ends the user's oldest session if there are more than MAX_SESSIONS.

    Raises Unauthorized, with the same text and timing for each reason, and TooManyRequests after too many failures,
    whether or not the account exists."""
    user_id, password_hash, active = await find_credentials(data.login)
    attempt = SignIn(account_key(data.login), address)
    known = bool(await _IS_KNOWN.value(user=user_id, address=address))
    await attempt.begin(known=known)
    if not await password_matches(password_hash, data.password) or not active:
        await record(Action.REFUSE_PASSWORD, "user", user_id)
        raise Unauthorized(_NOT_RIGHT)
    await attempt.succeed()
    token = new_token("session")
    async with DB.transaction():
        if not await lock_account(user_id, password_hash):
            raise Unauthorized(_NOT_RIGHT)
        session = await _CREATE_SESSION.one(
            id=(session_id := uuid7()),
            user=user_id,
            digest=digest(token),
            token=token,
            device=masked(device)[:DEVICE_LENGTH].replace("\0", ""),
            address=address[:ADDRESS_LENGTH],
            expires_at=datetime.now(UTC) + timedelta(days=settings.session_days),
        )
        await _END_OLDEST_SESSIONS.one(user=user_id, kept=MAX_SESSIONS)
        await record(Action.SIGN_IN, "session", session_id, member=user_id)
    if password_hash is not None and is_outdated(password_hash):
        await rehash_password(user_id, password_hash, data.password)
    return session_id, session


async def find_caller(token: str) -> Used | None:
    """The caller of this token; None when it has expired or was revoked."""
    row = await _FIND.one(digest=digest(token))
    if row is None:
        return None
    caller = Caller(
        id=row["user_id"],
        username=row["username"],
        token_id=row["id"],
        kind=row["kind"],
        scopes=frozenset(row["scopes"]),
        expires_at=row["expires_at"],
    )
    return Used(caller, row["last_used_at"])


async def record_use(token_id: UUID | None) -> None:
    await Token.update({Token.last_used_at: NOW}).where(Token.id == token_id)


async def list_sessions(user: Caller) -> list[Any]:
    return await _LIST_SESSIONS.all(user=user.id, current=user.token_id)


def get_current_token(user: Caller) -> CurrentToken:
    """Describes the token of a request. ``user`` is not anonymous."""
    if user.id is None or user.token_id is None:
        raise Unauthorized
    is_key = user.kind == "key"
    return CurrentToken(
        id=user.token_id,
        kind="api_key" if is_key else "session",
        user=Owner(id=user.id, username=user.username),
        scopes=[scope for scope in get_args(Scope) if not is_key or scope in user.scopes],
        expires_at=user.expires_at,
    )


async def delete_sessions(user: Caller) -> None:
    async with DB.transaction():
        await delete_tokens(user, kind="session")
        await record(Action.SIGN_OUT, "user", user.id, member=user.id)


async def delete_session(user: Caller, session_id: UUID | None) -> None:
    await delete_token(user, "session", session_id)


async def delete_tokens(user: Caller, *, kind: Kind | None = None, but: UUID | None = None) -> None:
    """Deletes the user's sessions and API keys; with ``kind`` only those, with ``but`` all except that one."""
    tokens = Token.delete().where(Token.user == user.id)
    if kind is not None:
        tokens = tokens.where(Token.kind == kind)
    if but is not None:
        tokens = tokens.where(Token.id != but)
    await tokens


async def delete_token(user: Caller, kind: Kind, token_id: UUID | None) -> None:
    """Raises NotFound."""
    own = (Token.id == token_id) & (Token.user == user.id) & (Token.kind == kind)
    async with DB.transaction():
        if not await Token.delete().where(own).returning(Token.id):
            raise NotFound
        if kind == "session":
            await record(Action.SIGN_OUT, "session", token_id, member=user.id)
        else:
            await record(Action.REVOKE_API_KEY, "api_key", token_id, member=user.id)
