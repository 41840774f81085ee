"""Refuses requests to other hosts, and normalizes the path as the router does."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from litestar.utils import normalize_path

from service.errors import BadRequest
from service.web.middleware.headers import request_header

# A name or an IPv6 address in brackets, and a port. Other spellings fail later: in URL parsers, and in redirects
_WELL_FORMED = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_MAX_PORT = 65_535


class Hosts:
    """``allowed`` are names; ``*.example.org`` allows every subdomain, ``*`` any host. A request that is ``exempt`` may
    name any host."""

    def __init__(self, allowed: Sequence[str], exempt: Callable[[Any], bool]) -> None:
        self.exempt = exempt
        self.names = {host.lower() for host in allowed if not host.startswith("*.")}
        self.parents = tuple(host[1:].lower() for host in allowed if host.startswith("*."))
        self._judge = lru_cache(maxsize=100)(self._parse)

    def check(self, scope: Any) -> None:
        host = request_header(scope, b"host") or b""
        path = scope["path"]
        is_allowed, is_well_formed = self._judge(host)
        if not is_allowed and not (is_well_formed and self.exempt(scope)):
            raise BadRequest("The Host header names no host of this service.")
        if "//" in path or path[-1:] == "/" or path[:1] != "/":
            scope["path"] = normalize_path(path)  # middleware that looks for /v1 must also find //v1

    def _parse(self, host: bytes) -> tuple[bool, bool]:
        """Whether the host is allowed, and whether it is well-formed. A request may have none: it is empty then."""
        match = _WELL_FORMED.fullmatch(host.decode("latin-1"))
        if match is None or int(match[2] or 0) > _MAX_PORT:
            return not host and "*" in self.names, not host
        name = match[1].lower()
        return name in self.names or (bool(self.parents) and name.endswith(self.parents)) or "*" in self.names, True
