"""Mounts the admin site at /admin/ and checks requests before they reach it.

Importing and building the site, with FastAPI and pydantic, takes half a second. The first request to the site does it,
in a thread, and others wait for it; a worker without such a request never does.
"""

import asyncio
import gc
import re
from datetime import timedelta
from importlib import import_module
from typing import Any
from urllib.parse import unquote

import msgspec
from litestar import asgi
from litestar.types import Message, Receive, Send
from starlette.requests import HTTPConnection

from service.admin.operators import SET_UP
from service.admin.roles import check_role
from service.audit.queries import count_refused_operators
from service.errors import (
    BadRequest,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    RequestTimeout,
    TooLarge,
    TooManyRequests,
    Unauthorized,
)
from service.limits.budget import Budget, clients_of
from service.settings import settings
from service.web.middleware.headers import request_header

PREFIX = "/admin"
_REFUSAL_WINDOW = timedelta(minutes=5)
MOST_REFUSED = max(1, round(20 * settings.rate_limit_factor))  # wrong passwords from one address, over all workers
MAX_BODY = 1024 * 1024  # no form of the site uploads files
_BODIES = Budget(16 * MAX_BODY, 4 * MAX_BODY)  # that are arriving: of all, and of an address
BODY_PATIENCE = 10.0  # seconds in which a body must arrive

_WRITABLE = (
    f"{PREFIX}/public/login/",
    f"{PREFIX}/public/logout/",
    f"{PREFIX}/api/change-password/",
    f"{PREFIX}/api/forms/",
    SET_UP,
)
_WITHOUT_BODY = f"{PREFIX}/public/logout"
_CHANGE_PASSWORD = f"{PREFIX}/api/change-password"
_WITH_PASSWORD = (f"{PREFIX}/public/login", _CHANGE_PASSWORD, SET_UP)
# The body of a form. No JSON matches: the site would read JSON instead of the form
_FORM = re.compile(rb"(?=[^=]*=)[\w.*%+&=-]*", re.ASCII)
_SWAGGER = (f"{PREFIX}/api/docs", f"{PREFIX}/public/docs")  # hidden: it loads scripts from another host

_modules: list[Any] = []  # the site's, once it is imported
_importing = asyncio.Lock()


@asgi(PREFIX, is_mount=True, copy_scope=False)
async def admin(scope: Any, receive: Receive, send: Send) -> None:
    """The site. Litestar removes the prefix from the path and adds a slash; the site needs the path as it was sent."""
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
        with _BODIES.used_by(clients_of(scope), _announced(scope)):
            body = await _read_body(scope, receive)
        _check_body(path, body)
        receive = _repeat(body, receive)
        if path.startswith(_WITH_PASSWORD) and await count_refused_operators(_REFUSAL_WINDOW) >= MOST_REFUSED:
            seconds = round(_REFUSAL_WINDOW.total_seconds())
            wait = f"Too many wrong passwords from your network. Wait for {seconds // 60} minutes."
            raise TooManyRequests(wait, headers={"Retry-After": str(seconds)})
        try:
            await check_role(HTTPConnection(scope).cookies.get("id"), path)  # read as the site reads them
        except (Unauthorized, Forbidden) as refusal:
            await _send_json(send, refusal.status, {"detail": refusal.detail})
            return

    module = await _site_module()

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [_restrict_cookie(*header) for header in message["headers"]]
            if all(name != b"content-security-policy" for name, _ in headers):  # the page of second factors has its own
                headers.append((b"content-security-policy", module.POLICY))
            message["headers"] = headers
        await send(message)

    scope["root_path"] = PREFIX
    await module.site(scope, receive, send_with_headers)


async def _site_module() -> Any:
    """One request imports the site. If each of many first requests did, they would keep all threads of the worker."""
    async with _importing:
        if not _modules:
            _modules.append(await asyncio.to_thread(import_module, "service.admin.site"))
            gc.freeze()  # see exempt_from_collection
    return _modules[0]


async def _send_json(send: Send, status: int, content: dict[str, str]) -> None:
    """The pages of the site do not read problem documents."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(content), "more_body": False})


def _announced(scope: Any) -> int:
    """The size of the body; the most that is accepted, if it is not announced."""
    length = request_header(scope, b"content-length") or b""
    if not length.isdigit():
        return MAX_BODY
    return int(length) if len(length) < 10 else MAX_BODY + 1


async def _read_body(scope: Any, receive: Receive) -> bytes:
    """Raises TooLarge, RequestTimeout, and BadRequest when the body breaks off."""
    if _announced(scope) > MAX_BODY:
        raise TooLarge.over(MAX_BODY)
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(BODY_PATIENCE):
            while more:
                message: Any = await receive()
                if message["type"] == "http.disconnect":
                    raise BadRequest("The body broke off.")
                body += message.get("body", b"")
                if len(body) > MAX_BODY:
                    raise TooLarge.over(MAX_BODY)
                more = message.get("more_body", False)
    except TimeoutError:
        raise RequestTimeout from None
    return bytes(body)


def _check_body(path: str, body: bytes) -> None:
    """Raises BadRequest for a body to which the site would answer 500. It expects a form at SET_UP, a JSON object or
    nothing for signing out, and a JSON object everywhere else."""
    if path.startswith(SET_UP):
        if not _FORM.fullmatch(body):
            raise BadRequest("The body is not a form.")
        return
    if not body and path.startswith(_WITHOUT_BODY):
        return
    try:
        msgspec.json.decode(body, type=dict[str, str] if path.startswith(_CHANGE_PASSWORD) else dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadRequest("The body is not a JSON object.") from None


def _repeat(body: bytes, receive: Receive) -> Receive:
    """``receive`` for the site, after the body has been read."""
    is_repeated = False

    async def repeat() -> Any:
        nonlocal is_repeated
        if is_repeated:
            return await receive()
        is_repeated = True
        return {"type": "http.request", "body": body, "more_body": False}

    return repeat


def _check_origin(scope: Any) -> None:
    """A second check beside the CSRF token, whose cookie another subdomain could set. Browsers send Sec-Fetch-Site."""
    if any(name == b"sec-fetch-site" and value != b"same-origin" for name, value in scope["headers"]):
        raise Forbidden("The admin site is only operated from its own pages.")


def _restrict_cookie(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """Limits cookies to the site's path, to requests from the same site and, in production, to HTTPS. The CSRF cookie
    is not HttpOnly because the site's scripts copy it into a header."""
    if name == b"set-cookie":
        value = value.replace(b"Path=/;", b"Path=/admin/;").replace(b"SameSite=lax", b"SameSite=strict")
        if settings.in_production and b"; Secure" not in value:
            value += b"; Secure"
    return name, value
