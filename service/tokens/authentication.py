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

_MISTYPED = "This is no token of this service: send 'Bearer <token>', whole and as it was given."
_ENDED = "The token has expired or was revoked."

_remembered: dict[str, tuple[float, Caller]] = {}


class Authentication:
    """Sets ``scope["user"]``, and ``scope["auth"]`` to what is wrong with a token that opens nothing: whether that
    matters, the route's guards say. Outside /v1 nobody asks: health is told also while the database is away."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        caller: Caller | str = STRANGER
        if scope["type"] == "http" and scope["path"].startswith("/v1/"):
            for name, value in scope["headers"]:
                if name == b"authorization":
                    caller = await _caller(value.decode("latin-1"))
                    break
        scope["user"], scope["auth"] = (STRANGER, caller) if isinstance(caller, str) else (caller, None)
        await self.app(scope, receive, send)


def forget_tokens() -> None:
    """After a revocation: this worker looks every token up again."""
    _remembered.clear()


async def _caller(authorization: str) -> Caller | str:
    """Who may call, or why nobody may."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not is_well_formed(token):
        return _MISTYPED
    remembered = _remembered.get(token)
    if remembered is not None and remembered[0] > time.monotonic():
        caller = remembered[1]
        return caller if caller.expires_at is None or caller.expires_at > datetime.now(UTC) else _ENDED
    found = await find_caller(token)
    if found is None:
        _remembered.pop(token, None)
        return _ENDED
    if found.last_used_at is None or found.last_used_at < datetime.now(UTC) - _USE_IS_WRITTEN_EVERY:
        await record_use(found.caller.token_id)
    if len(_remembered) >= _MOST:
        _remembered.clear()
    _remembered[token] = (time.monotonic() + REMEMBERED, found.caller)
    return found.caller
