"""``get``, ``post`` and the others, as Litestar's, for handlers that are asked often, and the answer that they can give
without being encoded, merged or guessed about."""

from functools import cached_property, partial
from typing import Any

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp, ExceptionHandlersMap

from service.web.responses import Rendered


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
