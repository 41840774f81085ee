"""API keys: tokens for programs, with scopes."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from service.audit.actions import Action
from service.audit.queries import record
from service.auth.queries import ALIVE, SHOWN_ONCE, delete_token, own_tokens
from service.auth.schemas import ApiKeyCreate
from service.auth.secrets import digest, new_token
from service.auth.tables import Token
from service.callers import Caller
from service.database.engine import DB
from service.database.prepared import Param, Prepared, insert, json_object, utc, written
from service.errors import Forbidden, NotFound, Unprocessable, Violation
from service.identifiers import uuid7
from service.users.credentials import confirm_password, lock_account, refused_password
from service.users.queries import get_account, notify

MAX_KEYS = 100  # of one user

KEY: dict[str, Any] = {
    "id": Token.id,
    "name": Token.name,
    "scopes": Token.scopes,
    "created_at": utc(Token.created_at),
    "expires_at": utc(Token.expires_at),
    "last_used_at": utc(Token.last_used_at),
}

_CREATE_KEY = Prepared(
    lambda: written(
        insert(Token, "id", "user", "digest", "name", "scopes", "expires_at", kind="key"),
        Token.select(json_object(KEY | SHOWN_ONCE).as_alias("item")),
    )
)
_LIST_KEYS = Prepared(
    lambda: Token.select(json_object(KEY).as_alias("item")).where(own_tokens("key")).order_by(Token.id, ascending=False)
)
_GET_KEY = Prepared(
    lambda: Token.select(json_object(KEY).as_alias("item")).where(own_tokens("key"), Token.id == Param("id"))
)


async def create_api_key(user: Caller, data: ApiKeyCreate) -> tuple[UUID, Any]:
    """The key's id and row. Raises Unprocessable for an expiry in the past, and Forbidden when the password is wrong,
    or changes meanwhile, or when there are MAX_KEYS."""
    if data.expires_at is not None and data.expires_at <= datetime.now(UTC):
        raise Unprocessable.of([Violation("Must be in the future.", pointer="/expires_at")])
    account = await get_account(user)
    await confirm_password(user, account["password_hash"], data.current_password)
    token = new_token("key")
    scopes = sorted(set(data.scopes))
    async with DB.transaction():
        if not await lock_account(user.id, account["password_hash"]):
            raise refused_password()
        if await Token.count().where(Token.user == user.id, Token.kind == "key", ALIVE) >= MAX_KEYS:
            raise Forbidden(f"An account has at most {MAX_KEYS} API keys.")
        key = await _CREATE_KEY.one(
            id=(key_id := uuid7()),
            user=user.id,
            digest=digest(token),
            token=token,
            name=data.name,
            scopes=scopes,
            expires_at=data.expires_at,
        )
        await notify("api_key_created", account)
        await record(Action.CREATE_API_KEY, "api_key", key_id, member=user.id, scopes=scopes)
    return key_id, key


async def list_api_keys(user: Caller) -> list[Any]:
    return await _LIST_KEYS.all(user=user.id)


async def get_api_key(user: Caller, key_id: UUID) -> Any:
    if row := await _GET_KEY.one(user=user.id, id=key_id):
        return row
    raise NotFound


async def delete_api_key(user: Caller, key_id: UUID) -> None:
    await delete_token(user, "key", key_id)
