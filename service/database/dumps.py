"""Runs pg_dump and pg_restore on the database of the service."""

import asyncio
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from service.database.embedded import program_directories
from service.database.hosts import split_hosts

# Of the parameters of an address, asyncpg takes all others as settings of the session, and libpq refuses them
_LIBPQ = {
    "host", "port", "dbname", "user", "passfile", "target_session_attrs", "options", "krbsrvname", "gsslib",
    "sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "ssl_min_protocol_version",
    "ssl_max_protocol_version", "sslnegotiation",
}  # fmt: skip
_NOT_OURS = ("--no-owner", "--no-privileges", "--no-tablespaces", "--no-password")  # those of the new server apply


class DumpError(Exception):
    """A program failed or is missing. The message says why, in one line."""


async def dump(dsn: str, directory: Path, server: int, snapshot: str) -> None:
    """Writes a dump of what the snapshot sees into a new directory. ``server`` is the major version of PostgreSQL."""
    await _run("pg_dump", dsn, server, "--format=directory", f"--file={directory}", f"--snapshot={snapshot}")


async def restore(dsn: str, directory: Path, server: int) -> None:
    """Restores a dump in one transaction."""
    # The comment of an extension belongs to its owner, who may be an administrator
    options = ("--single-transaction", "--exit-on-error", "--no-comments")
    await _run("pg_restore", dsn, server, *options, str(directory))


async def _run(program: str, dsn: str, server: int, *arguments: str) -> None:
    address, environment = libpq_address(dsn)
    command = [_find(program, server), f"--dbname={address}", *_NOT_OURS, *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={"PGCONNECT_TIMEOUT": "10"} | os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise DumpError(_one_line(errors.decode(errors="replace")) or f"{program} ended with {process.returncode}")


def libpq_address(dsn: str) -> tuple[str, dict[str, str]]:
    """The address as libpq reads it, without a password, and the environment that has the password: everybody on the
    machine sees the arguments of a program."""
    url = urlsplit(dsn)
    user, at, hosts = url.netloc.rpartition("@")
    name, _, password = user.partition(":")
    given = dict(parse_qsl(url.query))
    password = unquote(password) or given.get("password", "")
    query = {"dbname" if key == "database" else key: value for key, value in given.items()}
    query = {key: value for key, value in query.items() if key in _LIBPQ}
    if len(split_hosts(dsn)) > 1 and "target_session_attrs" not in query:
        query["target_session_attrs"] = "read-write"  # as service/database/hosts.py chooses
    address = url._replace(netloc=f"{name}{at}{hosts}", query=urlencode(query, quote_via=quote)).geturl()
    return address, {"PGPASSWORD": password} if password else {}


def _find(program: str, server: int) -> str:
    """That of the server's major version if there is one, else of the next newer one, else of the newest.

    An older pg_dump refuses the server. A newer pg_restore may use settings that the server does not have."""
    found: dict[int, str] = {}
    for directory in program_directories(program):
        if os.access(path := directory / program, os.X_OK) and (version := _major_version(path)):
            found.setdefault(version, str(path))
    if not found:
        raise DumpError(f"{program} was not found: install the client programs of PostgreSQL {server}.")
    return found[min(found, key=lambda version: (version < server, abs(version - server)))]


def _major_version(path: Path) -> int | None:
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\) (\d+)", done.stdout)
    return int(version[1]) if version else None


def _one_line(errors: str) -> str:
    text = re.split(r"^Command was:", errors, maxsplit=1, flags=re.MULTILINE)[0]
    return "; ".join(line.strip() for line in text.splitlines() if line.strip() and "while PROCESSING" not in line)
