"""Turns ``Authorization: Bearer`` into a Caller, in front of Litestar."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from litestar.types import ASGIApp, Receive, Send

from service.callers import STRANGER, Caller
from service.tokens.queries import find_caller, record_use
from service.tokens.secrets import is_well_formed

REMEMBERED = 5.0  # seconds until a token that was revoked elsewhere is refused here, at the latest
_MOST = 10_000
_USE_IS_WRITTEN_EVERY = timedelta(minutes=1)

_remembered: dict[str, tuple[float, Caller]] = {}


class Authentication:
    """Sets ``scope["user"]``, and ``scope["auth"]`` to False when there is a token but no valid one: whether that
    matters, the route's guards say. Outside /v1 nobody asks: health is told also while the database is away."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        caller: Caller | None = STRANGER
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            for name, value in scope["headers"]:
                if name == b"authorization":
                    caller = await _caller(value.decode("latin-1"))
                    break
        scope["user"] = caller or STRANGER
        scope["auth"] = None if caller is STRANGER else caller is not None
        await self.app(scope, receive, send)


def forget_tokens() -> None:
    """After a revocation: this worker looks every token up again."""
    _remembered.clear()


async def _caller(authorization: str) -> Caller | None:
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not is_well_formed(token):
        return None
    remembered = _remembered.get(token)
    if remembered is not None and remembered[0] > time.monotonic():
        caller = remembered[1]
        return caller if caller.expires_at is None or caller.expires_at > datetime.now(UTC) else None
    found = await find_caller(token)
    if found is None:
        _remembered.pop(token, None)
        return None
    if found.last_used_at is None or found.last_used_at < datetime.now(UTC) - _USE_IS_WRITTEN_EVERY:
        await record_use(found.caller.token_id)
    if len(_remembered) >= _MOST:
        _remembered.clear()
    _remembered[token] = (time.monotonic() + REMEMBERED, found.caller)
    return found.caller
