"""Answers OPTIONS with every method of the path (Litestar would list those of one handler), and unknown methods."""

from typing import Any, Protocol

from litestar.exceptions import MethodNotAllowedException, NotFoundException
from litestar.types import ASGIApp, Receive, Send

from service.errors import MethodNotAllowed
from service.web.middleware.headers import request_header
from service.web.problems import allowed

_SERVED = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}


class Router(Protocol):
    """Litestar's router, as far as it is used here. Raises NotFoundException and MethodNotAllowedException."""

    def handle_routing(self, path: str, method: Any) -> Any: ...


class Options:
    def __init__(self, app: ASGIApp, router: Router) -> None:
        self.app = app
        self.router = router

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        method = scope["method"]
        if method in _SERVED or not (methods := self._methods(scope)):
            await self.app(scope, receive, send)
            return
        allow = ", ".join(methods)
        if method != "OPTIONS":  # TRACE, CONNECT, or any other word: a mounted application might accept it
            raise MethodNotAllowed(headers={"Allow": allow})
        await send({"type": "http.response.start", "status": 204, "headers": [(b"allow", allow.encode())]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _methods(self, scope: Any) -> list[str]:
        """Every method of the path; none for an unknown one, unless it is a preflight: browsers report its 404 as a
        fault of CORS, but show that of the request."""
        try:
            self.router.handle_routing(path=scope["path"], method="TRACE")  # no route has it
        except MethodNotAllowedException as error:
            return allowed((error.headers or {})["allow"])
        except NotFoundException:
            is_preflight = request_header(scope, b"access-control-request-method") is not None
            return allowed("GET, POST, PUT, PATCH, DELETE") if is_preflight else []
        return allowed("GET, POST, PUT, PATCH, DELETE")  # a mounted application
