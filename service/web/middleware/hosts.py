"""Refuses requests to other hosts, and spells the path as the router does."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from litestar.types import ASGIApp, Receive, Send
from litestar.utils import normalize_path

from service.errors import BadRequest


class Hosts:
    """``allowed`` are names; ``*.example.org`` stands for every subdomain, ``*`` for any host."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str]) -> None:
        self.app = app
        self.names = {host.lower() for host in allowed if not host.startswith("*.")}
        self.parents = tuple(host[1:].lower() for host in allowed if host.startswith("*."))
        self._is_allowed = lru_cache(maxsize=100)(self._check)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) > 1:  # two parts of the service might each believe another one
            raise BadRequest("There is more than one Host header.")
        if not self._is_allowed(b"".join(hosts)) and not scope["path"].startswith("/health/"):
            raise BadRequest("The Host header names no host of this service.")
        scope["path"] = normalize_path(scope["path"])  # so that //v1 gets round no middleware that looks for /v1
        await self.app(scope, receive, send)

    def _check(self, host: bytes) -> bool:
        text = host.decode("latin-1")
        name = (text if text.endswith("]") else re.sub(r":\d+$", "", text)).lower()
        return name in self.names or (bool(self.parents) and name.endswith(self.parents)) or "*" in self.names
