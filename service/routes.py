"""``get``, ``post`` and the others, as Litestar's, for handlers that are asked often, and the answer that they can give
without being encoded, merged or guessed about."""

from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

from litestar import Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, ExceptionHandlersMap, Receive, Send

T = TypeVar("T")


class Rendered(Response[Any], Generic[T]):
    """A body that is JSON already, documented as a ``T``. Of Litestar's Response it is the type alone."""

    def __init__(self, body: str | bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.rendered = body.encode() if isinstance(body, str) else body
        self.status = status
        self.told = headers or {}

    async def answer(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.told.items()]
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.rendered))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.rendered, "more_body": False})


class Route(HTTPRouteHandler):
    async def authorize_connection(self, connection: ASGIConnection) -> None:  # type: ignore[type-arg] # Litestar's
        """As Litestar's, which would copy the handler, all of its seventy attributes, for each guard."""
        for guard in self.resolve_guards():
            await guard(connection, self)  # type: ignore[misc] # Litestar's own words on it

    def resolve_exception_handlers(self) -> ExceptionHandlersMap:
        """As Litestar's, which would collect them from every layer for each request."""
        return self._exception_handlers

    @cached_property
    def _exception_handlers(self) -> ExceptionHandlersMap:
        return super().resolve_exception_handlers()

    async def to_response(self, app: Litestar, data: Any, request: Request[Any, Any, Any]) -> ASGIApp:
        return data.answer if isinstance(data, Rendered) else await super().to_response(app, data, request)


get = partial(Route, http_method="GET")
post = partial(Route, http_method="POST")
put = partial(Route, http_method="PUT")
patch = partial(Route, http_method="PATCH")
delete = partial(Route, http_method="DELETE")
