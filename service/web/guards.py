"""Guards: what a route asks of its caller and of its parameters."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.types import Guard

from service.callers import Caller, Scope
from service.errors import BadRequest, Forbidden, Unauthorized, Violation
from service.web.problems import sent_name
from service.web.query import read_value

_IDEMPOTENCY_KEY = re.compile(rb"[!-~]{1,255}")


def requires(scope: Scope) -> Guard:
    """A session, or an API key with this scope."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        caller: Caller = connection.user
        if caller.kind == "key" and scope not in caller.scopes:
            raise Forbidden(f"This API key lacks the scope {scope}.")

    guard.scope = scope  # type: ignore[attr-defined] # for the OpenAPI document
    return guard


async def requires_session(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A session: an API key never reaches sessions, keys, passwords, e-mail, export or deletion."""
    if connection.user.kind == "key":
        raise Forbidden("An API key may not do this: sign in.")


async def authenticated(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """On every route: a valid token, or none at all where the route says ``public=True``."""
    if connection.auth is not None:
        raise Unauthorized(connection.auth)
    if connection.user.id is None and not handler.opt.get("public"):
        raise Unauthorized


async def known_parameters(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """On every route: in the query, only what the route declares, each at most once; and an Idempotency-Key only where
    it keeps its promise."""
    faults: list[Violation] = []
    if connection.scope["query_string"] and "query" not in handler.opt:  # which service/web/query.py reads, as strictly
        given = list(connection.query_params.items())
        names = [name for name, _ in given]
        known = _query_parameters(handler)
        faults += [Violation("Is not a known parameter.", parameter=name) for name in names if name not in known]
        faults += [Violation("Must be given only once.", parameter=name) for name in known if names.count(name) > 1]
        for name, value in given:
            if name in known:
                read_value(name, value, known[name], faults)
    if keys := [value for name, value in connection.scope["headers"] if name == b"idempotency-key"]:
        faults += _key_violations(handler, keys)
    if faults:
        raise BadRequest("The request's parameters are not valid.", errors=faults)


@cache
def _query_parameters(handler: BaseRouteHandler) -> Mapping[str, Any]:
    """The type of each, by the name it is sent under."""
    declared = {
        sent_name(handler, name): argument.annotation
        for name, argument in handler.parsed_fn_signature.parameters.items()
        if isinstance(argument.kwarg_definition, QueryParameter)
    }
    return declared | {"dry_run": Literal["true", "false"]} if handler.opt.get("dry_run") else declared


def _key_violations(handler: BaseRouteHandler, keys: Sequence[bytes]) -> Iterator[Violation]:
    if not handler.opt.get("idempotent"):
        yield Violation("Is not taken here.", header="Idempotency-Key")
    elif len(keys) > 1:
        yield Violation("Must be given only once.", header="Idempotency-Key")
    elif not _IDEMPOTENCY_KEY.fullmatch(keys[0]):
        yield Violation("Must be 1 to 255 visible ASCII characters.", header="Idempotency-Key")


async def current_user(request: Request[Caller, Any, Any]) -> Caller:
    return request.user


CurrentUser = NamedDependency[Caller]
