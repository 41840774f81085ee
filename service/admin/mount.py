"""The admin site's place at /admin/, and what stands in front of it.

The site itself, with FastAPI and pydantic, takes half a second to import and to build: that is done when it is first
asked for, in a thread, and in no worker that nobody asks.
"""

import asyncio
from datetime import timedelta
from importlib import import_module
from typing import Any
from urllib.parse import unquote

from litestar import asgi
from litestar.types import Message, Receive, Send

from service.audit.queries import count_refused_operators
from service.errors import Forbidden, MethodNotAllowed, NotFound, TooManyRequests
from service.settings import settings

PREFIX = "/admin"
REFUSED_WITHIN = timedelta(minutes=5)
MOST_REFUSED = max(1, round(20 * settings.rate_limit_scale))  # passwords, of an address, by all workers together

_WRITABLE = (
    f"{PREFIX}/public/login/",
    f"{PREFIX}/public/logout/",
    f"{PREFIX}/api/change-password/",
    f"{PREFIX}/api/forms/",
)
_WITH_PASSWORD = (f"{PREFIX}/public/login", f"{PREFIX}/api/change-password")
_SWAGGER = (f"{PREFIX}/api/docs", f"{PREFIX}/public/docs")  # would load its scripts from another host


@asgi(PREFIX, is_mount=True, copy_scope=False)
async def admin(scope: Any, receive: Receive, send: Send) -> None:
    """Litestar strips the prefix and forces a slash to the end; the site wants the path as it came, and root_path."""
    path = unquote((scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")) or PREFIX + scope["path"]
    scope["path"] = path
    if path == PREFIX:
        await send({"type": "http.response.start", "status": 307, "headers": [(b"location", b"/admin/")]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    if not path.startswith(f"{PREFIX}/") or path.startswith(_SWAGGER):
        raise NotFound
    if scope["method"] != "GET" and not path.startswith(_WRITABLE):
        raise MethodNotAllowed(headers={"Allow": "GET, HEAD, OPTIONS"})

    if scope["method"] != "GET":
        _check_origin(scope)
    if path.startswith(_WITH_PASSWORD) and await count_refused_operators(REFUSED_WITHIN) >= MOST_REFUSED:
        raise TooManyRequests(headers={"Retry-After": str(round(REFUSED_WITHIN.total_seconds()))})

    built = await asyncio.to_thread(import_module, "service.admin.site")

    async def send_narrowed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [_narrowed(*header) for header in message["headers"]]
            message["headers"] = [*headers, (b"content-security-policy", built.POLICY)]
        await send(message)

    scope["root_path"] = PREFIX
    await built.site(scope, receive, send_narrowed)


def _check_origin(scope: Any) -> None:
    """Beside the CSRF token, which somebody on another subdomain might plant: browsers say where a request began."""
    if any(name == b"sec-fetch-site" and value != b"same-origin" for name, value in scope["headers"]):
        raise Forbidden("The admin site is only operated from its own pages.")


def _narrowed(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """The site's cookies are for the site alone, and in production for HTTPS alone. Its scripts read the CSRF token's,
    to send it back in a header, which another site's cannot: so that one is not HttpOnly."""
    if name == b"set-cookie":
        value = value.replace(b"Path=/;", b"Path=/admin/;").replace(b"SameSite=lax", b"SameSite=strict")
        if settings.in_production and b"; Secure" not in value:
            value += b"; Secure"
    return name, value
