"""The forms of settings: what a value must look like, beyond its type."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from email.utils import parseaddr
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

_NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_IPV6 = r"[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*"
_HOST = rf"({_NAME}|\[{_IPV6}\])"
_SOCKET = r"%2F[A-Za-z0-9%._-]+"  # the directory of a Unix socket
_PORT = r"([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"
_URL = rf"https?://{_HOST}(:{_PORT})?(/[^\s?#]*)?"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IPV4_IN_IPV6 = IPv6Network("::ffff:0:0/96")
_PRIVATE = [
    IPv4Network(each) for each in ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
]
_PRIVATE_IN_IPV6 = [IPv6Network("fc00::/7"), IPv6Network("fe80::/10")]

# The values that asyncpg accepts
_DATABASE_OPTIONS = {
    "sslmode": {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"},
    "target_session_attrs": {"any", "primary", "standby", "prefer-standby", "read-write", "read-only"},
}


def _like(pattern: str) -> Callable[[str], Any]:
    return re.compile(pattern).fullmatch


def _is_network(text: str) -> bool:
    with suppress(ValueError):
        return bool(ip_network(text, strict=False))
    return text == "*"


def _is_database(text: str) -> bool:
    """Each host has a valid port, and each option a value that asyncpg knows. A password with an @, / or ? that is not
    percent-encoded would be taken for a part of the hosts."""
    with suppress(ValueError):
        url = urlsplit(text)
        options = dict(parse_qsl(url.query, keep_blank_values=True, strict_parsing=bool(url.query)))
        hosts = url.netloc.rpartition("@")[2].split(",")
        return (
            url.scheme in ("postgresql", "postgres")
            and not re.search(r"\s", text)
            and url.netloc.count("@") <= 1
            and (hosts == [""] or all(re.fullmatch(rf"({_HOST}|{_SOCKET})(:{_PORT})?", host) for host in hosts))
            and bool(url.netloc.strip(",") or options or url.path.strip("/"))
            and all(value in _DATABASE_OPTIONS.get(name, {value}) for name, value in options.items())
        )
    return False


def _is_valkey(text: str) -> bool:
    with suppress(ValueError):
        url: SplitResult = urlsplit(text)
        if url.scheme == "unix":
            return url.path.startswith("/") and len(url.path) > 1
        known = url.scheme in ("valkey", "valkeys", "redis", "rediss")
        return known and bool(url.hostname) and url.port != 0 and bool(re.fullmatch(r"/?\d*", url.path))
    return False


def _is_sender(text: str) -> bool:
    return bool(re.fullmatch(rf"[^@\s]+@{_NAME}", parseaddr(text)[1]))


# By setting: a test of its value, and the form that the value must have. In a list, each value is tested
_FORMS: dict[str, tuple[Callable[[str], Any], str]] = {
    "host": (_like(rf"{_NAME}|{_IPV6}"), "an address such as 127.0.0.1 or ::, without a port"),
    "public_url": (_like(_URL), "an address such as https://api.example.org"),
    "links_url": (_like(_URL), "an address such as https://app.example.org"),
    "database_url": (
        _is_database,
        "an address such as postgresql://user:password@host/database, with special characters percent-encoded",
    ),
    "database_direct_url": (_is_database, "an address such as postgresql://user:password@host/database"),
    "database_replica_urls": (
        _is_database,
        "addresses such as postgresql://user:password@host/database, of one host each, separated by commas",
    ),
    "storage_url": (
        _like(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?"),
        "s3://bucket or s3://bucket/prefix",
    ),
    "s3_endpoint_url": (_like(_URL), "an address such as https://s3.example.org"),
    "otel_exporter_otlp_endpoint": (_like(_URL), "an address such as http://127.0.0.1:4318"),
    "s3_region": (_like(r"[A-Za-z0-9-]+"), "a region such as us-east-1"),
    "s3_access_key_id": (_like(r"\S+"), "a key without spaces"),
    "s3_secret_access_key": (_like(r"\S+"), "a key without spaces"),
    "valkey_url": (_is_valkey, "an address such as valkey://host:6379"),
    "allowed_hosts": (
        _like(rf"\*|(\*\.)?{_HOST}"),
        "host names such as api.example.org or *.example.org, without a port",
    ),
    "cors_origins": (_like(rf"https?://{_HOST}(:{_PORT})?"), "origins such as https://app.example.org"),
    "metrics_token": (_like(r"[\x21-\x7e]+"), "characters of ASCII, without spaces"),
    "smtp_host": (_like(rf"{_NAME}|{_IPV6}"), "a host name such as mail.example.org, without a port"),
    "mail_from": (_is_sender, "an address such as 'Name <name@example.org>'"),
    "second_factor_key": (_like(r".{32,}"), "at least 32 random characters"),
    "trusted_proxies": (_is_network, "addresses or networks such as 10.0.0.0/8"),
}


def faults_of_form(name: str, value: Any) -> Iterator[str]:
    """The faults of the value of a setting. The value is not shown where it may hold a password."""
    if isinstance(value, str) and _CONTROL.search(value):
        yield "Must not contain control characters."
    elif isinstance(value, Path):
        if os.path.exists(value) and not os.path.isdir(value):  # Path.exists raises where access is denied
            yield "Must be a directory."
    elif name in _FORMS:
        is_valid, description = _FORMS[name]
        if isinstance(value, tuple):
            shown = "" if name == "database_replica_urls" else ", not {!r}"
            yield from (f"Must be {description}{shown.format(each)}." for each in value if not is_valid(each))
        elif not is_valid(value):
            yield f"Must be {description}."


def trusts_nearly_everybody(proxies: tuple[str, ...]) -> bool:
    """Whether they have more public addresses together than a /8 of IPv4 or a /16 of IPv6. All proxies of a large
    network have fewer."""
    if "*" in proxies:
        return True
    old: list[IPv4Network] = []
    new: list[IPv6Network] = []
    for network in (ip_network(proxy, strict=False) for proxy in proxies):
        if isinstance(network, IPv4Network):
            old.append(network)
        elif network.subnet_of(_IPV4_IN_IPV6):
            old.append(IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96)))
        elif network.supernet_of(_IPV4_IN_IPV6):
            return True
        else:
            new.append(network)
    public = [each for each in collapse_addresses(old) if not any(each.subnet_of(own) for own in _PRIVATE)]
    public_v6 = [each for each in collapse_addresses(new) if not any(each.subnet_of(own) for own in _PRIVATE_IN_IPV6)]
    return sum(each.num_addresses for each in public) > 2**24 or sum(each.num_addresses for each in public_v6) > 2**112
