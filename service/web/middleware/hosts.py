"""Refuses requests to other hosts, and normalizes the path as the router does."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from litestar.types import ASGIApp, Receive, Send
from litestar.utils import normalize_path

from service.errors import BadRequest


class Hosts:
    """``allowed`` are names; ``*.example.org`` allows every subdomain, ``*`` any host."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self.app = app
        self.names = {host.lower() for host in allowed if not host.startswith("*.")}
        self.parents = tuple(host[1:].lower() for host in allowed if host.startswith("*."))
        self._is_allowed = lru_cache(maxsize=100)(self._check)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        host, hosts = b"", 0
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
                hosts += 1
        if hosts > 1:  # two parts of the service might each believe another one
            raise BadRequest("There is more than one Host header.")
        path = scope["path"]
        if not self._is_allowed(host) and not path.startswith("/health/"):
            raise BadRequest("The Host header names no host of this service.")
        if "//" in path or path[-1:] == "/" or path[:1] != "/":
            scope["path"] = normalize_path(path)  # middleware that looks for /v1 must also find //v1
        await self.app(scope, receive, send)

    def _check(self, host: bytes) -> bool:
        text = host.decode("latin-1")
        name = (text if text.endswith("]") else re.sub(r":\d+$", "", text)).lower()
        return name in self.names or (bool(self.parents) and name.endswith(self.parents)) or "*" in self.names
