"""``get``, ``post`` and the others, as Litestar's, for handlers that are asked often."""

from functools import partial

from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler


class Route(HTTPRouteHandler):
    async def authorize_connection(self, connection: ASGIConnection) -> None:  # type: ignore[type-arg] # Litestar's
        """As Litestar's, which would copy the handler, all of its seventy attributes, for each guard."""
        for guard in self.resolve_guards():
            await guard(connection, self)  # type: ignore[misc] # Litestar's own words on it


get = partial(Route, http_method="GET")
post = partial(Route, http_method="POST")
put = partial(Route, http_method="PUT")
patch = partial(Route, http_method="PATCH")
delete = partial(Route, http_method="DELETE")
