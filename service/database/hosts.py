"""Connects to the first of several hosts in DATABASE_URL that can be used. asyncpg would wait at a host that hangs for
the whole time-out, each time."""

import os
from functools import cache
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import asyncpg
from asyncpg.exceptions import TargetServerAttributeNotMatched

_HOST_TIMEOUT = 2.0  # seconds for each of several hosts

# After these errors, the next host is tried. Any other refusal, as of a password, holds for all hosts
_NEXT_HOST = (OSError, TimeoutError, asyncpg.CannotConnectNowError, TargetServerAttributeNotMatched)


async def connect(dsn: str, **options: Any) -> asyncpg.Connection:
    """A new connection, with the options of asyncpg.connect. Raises ConnectionError with the host and the reason, for
    each of several hosts."""
    if hosts := _hosts(dsn):
        return await hosts.connect(**options)
    try:
        return await asyncpg.connect(dsn, **options)
    except TimeoutError:
        raise
    except OSError as error:
        raise ConnectionError(f"{name_of(dsn)}: {_reason(error)}") from error


class _Hosts:
    def __init__(self, addresses: list[str], target: str) -> None:
        self._addresses = addresses  # in the order in which they are tried
        self._targets = ["standby", "any"] if target == "prefer-standby" else [target]

    async def connect(self, timeout: float = 60, **options: Any) -> asyncpg.Connection:  # noqa: ASYNC109 (asyncpg's own)
        reasons: dict[str, str] = {}
        for target in self._targets:
            for address in list(self._addresses):
                try:
                    return await asyncpg.connect(
                        address, timeout=min(timeout, _HOST_TIMEOUT), target_session_attrs=target, **options
                    )
                except _NEXT_HOST as error:
                    reasons[name_of(address)] = _reason(error)
                    self._try_last(address)
        raise ConnectionError("; ".join(f"{name}: {reason}" for name, reason in reasons.items()))

    def _try_last(self, address: str) -> None:
        """So a host costs its time-out once, and not each time."""
        self._addresses.remove(address)
        self._addresses.append(address)


@cache
def _hosts(dsn: str) -> _Hosts | None:
    """None if there is one host. Of several hosts, one that accepts writes is chosen by default."""
    addresses = split_hosts(dsn)
    if len(addresses) == 1:
        return None
    given = parse_qs(urlsplit(dsn).query).get("target_session_attrs", [""])[-1]
    return _Hosts(addresses, given or os.environ.get("PGTARGETSESSIONATTRS") or "read-write")


def split_hosts(dsn: str) -> list[str]:
    """The address of each host. They are in the place of the host, or in the query as ``host=a,b&port=1,2``."""
    url = urlsplit(dsn)
    user, at, hosts = url.netloc.rpartition("@")
    if hosts:
        return [url._replace(netloc=f"{user}{at}{host}").geturl() for host in hosts.split(",")]
    query = {name: values[-1] for name, values in parse_qs(url.query).items()}
    names = query.get("host", "").split(",")
    ports = query.get("port", "").split(",")
    if len(names) == 1:
        return [dsn]
    ports = ports * len(names) if len(ports) == 1 else ports
    return [
        url._replace(query=_query(query | {"host": name, "port": port})).geturl()
        for name, port in zip(names, ports, strict=True)
    ]


def _query(values: dict[str, str]) -> str:
    return "&".join(f"{name}={quote(value)}" for name, value in values.items() if value)


def name_of(address: str) -> str:
    """For messages: without a password."""
    url = urlsplit(address)
    return unquote(url.netloc.rpartition("@")[2]) or parse_qs(url.query).get("host", ["localhost"])[-1]


def _reason(error: Exception) -> str:
    match error:
        case TargetServerAttributeNotMatched():
            return "it is a standby, or only reads"
        case TimeoutError():
            return f"no answer within {_HOST_TIMEOUT:.0f} s"
        case _:
            return str(error) or type(error).__name__
