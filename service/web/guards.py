"""Guards: the requirements of a route for its caller and its parameters."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from service.callers import Caller, Scope
from service.errors import BadRequest, Forbidden, Unauthorized, Violation
from service.web.middleware.headers import request_header
from service.web.requests import StrictRequest

_IDEMPOTENCY_KEY = re.compile(rb"[!-~]{1,255}")


def requires(scope: Scope) -> Guard:
    """Requires a session, or an API key with this scope."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        check_scope(connection.user, scope)

    guard.scope = scope  # type: ignore[attr-defined] # for the OpenAPI document
    return guard


def check_scope(caller: Caller, scope: Scope) -> None:
    if caller.kind == "key" and scope not in caller.scopes:
        raise Forbidden(f"This API key lacks the scope {scope}.")


READ_CHARACTERS = requires("characters:read")
WRITE_CHARACTERS = requires("characters:write")
READ_TEMPLATES = requires("templates:read")
WRITE_TEMPLATES = requires("templates:write")


async def requires_session(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Requires a session: an API key has no access to sessions, keys, passwords, e-mail, export or deletion."""
    if connection.user.kind == "key":
        raise Forbidden("An API key may not do this: sign in.")


async def authenticated(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """On every route: requires a valid token. A route with ``public=True`` also allows requests without a token, and
    ignores an invalid one if it shows nothing more to a caller."""
    if connection.auth is not None and not ignores_invalid_token(handler):
        raise Unauthorized(connection.auth)
    if connection.user.id is None and not handler.opt.get("public"):
        raise Unauthorized


@cache
def ignores_invalid_token(handler: BaseRouteHandler) -> bool:
    """A client with an old token can sign in. Where a token shows more, to ignore it would hide rows without a word."""
    return bool(handler.opt.get("public")) and scope_of(handler) is None


def scope_of(handler: BaseRouteHandler) -> Scope | None:
    """The scope that the route asks of an API key."""
    return next((guard.scope for guard in handler.resolve_guards() if hasattr(guard, "scope")), None)


async def known_parameters(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """On every route: allows only the query parameters that the handler names, and an Idempotency-Key only where the
    route has ``idempotent=True``."""
    faults: list[Violation] = []
    if connection.scope["query_string"] and isinstance(connection, StrictRequest):
        try:
            connection.parameters  # noqa: B018 # reads them, and keeps them for the handler
        except BadRequest as error:
            if not error.errors:
                raise
            faults += error.errors
    if (key := request_header(connection.scope, b"idempotency-key")) is not None:
        faults += _key_violations(handler, key)
    if faults:
        raise BadRequest.of(faults)


def _key_violations(handler: BaseRouteHandler, key: bytes) -> Iterator[Violation]:
    if not handler.opt.get("idempotent"):
        yield Violation("Is not supported by this operation.", header="Idempotency-Key")
    elif not _IDEMPOTENCY_KEY.fullmatch(key):
        yield Violation("Must be 1 to 255 visible ASCII characters.", header="Idempotency-Key")


async def current_user(request: Request[Caller, Any, Any]) -> Caller:
    return request.user


CurrentUser = NamedDependency[Caller]
