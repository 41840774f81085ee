"""Guards: the requirements of a route for its caller and its parameters."""

from functools import cache
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from service.callers import Caller, Scope
from service.errors import BadRequest, Forbidden, Unauthorized
from service.web.parameters import header_violations, path_violations
from service.web.requests import StrictRequest


def requires(scope: Scope) -> Guard:
    """Requires a session, or an API key with this scope."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        check_scope(connection.user, scope)

    guard.scope = scope  # type: ignore[attr-defined] # for the OpenAPI document
    return guard


def check_scope(caller: Caller, scope: Scope) -> None:
    if not caller.may(scope):
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
    """On every route: allows only what the handler names in the query, the headers and the path, and reports the faults
    of all three together."""
    unreadable, faults = "", []
    if connection.scope["query_string"] and isinstance(connection, StrictRequest):
        try:
            connection.parameters  # noqa: B018 # reads them, and keeps them for the handler
        except BadRequest as error:
            unreadable, faults = "" if error.errors else error.detail, error.errors
    faults += header_violations(connection.scope, handler)
    faults += path_violations(connection.scope["path_params"], handler)
    if unreadable:
        raise BadRequest(unreadable, errors=faults)
    if faults:
        raise BadRequest.of(faults)


async def current_user(request: Request[Caller, Any, Any]) -> Caller:
    return request.user


CurrentUser = NamedDependency[Caller]
