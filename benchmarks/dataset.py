"""The database of the benchmarks: migrated, filled with synthetic data, and kept for the next run."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from benchmarks.servers import ROOT, Server, with_programs
from service.database import embedded

DIRECTORY = ROOT / ".data/benchmarks"
# The indexes that an author of another stack would make for lists, filters and search
INDEXES_OF_PEERS = (
    "characters_owned", "characters_style", "characters_tags", "characters_search", "characters_template",
)  # fmt: skip
BENCH = {"email": "bench@example.org", "username": "bench", "password": "only for measuring on one machine"}


@contextmanager
def database(characters: int, users: int, directory: Path = DIRECTORY, *, durable: bool = True) -> Iterator[str]:
    """The address of a database with that much synthetic data. Unless ``durable``, a commit does not wait for the disk,
    because on a slow disk a write would measure nothing else."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)  # as root, PostgreSQL runs as another user
    share = embedded.start(directory)
    try:
        name = f"synthetic_{characters}"
        dsn = share.dsn.replace("@/service", f"@/{name}")
        operator = share.dsn.replace("service@/service", "postgres@/postgres")
        if not asyncio.run(fetch(operator, "SELECT FROM pg_database WHERE datname = $1", name)):
            asyncio.run(execute(operator, f"CREATE DATABASE {name} OWNER service"))
        _piccolo(dsn, "migrations", "forwards", "all")
        _piccolo(dsn, "service", "seed", f"--characters={characters}", f"--users={users}")
        asyncio.run(
            execute(dsn, "DELETE FROM characters WHERE owner IN (SELECT id FROM users WHERE username = 'bench')")
        )
        asyncio.run(execute(dsn, "VACUUM ANALYZE"))
        asyncio.run(execute(operator, f"ALTER DATABASE {name} SET synchronous_commit = {'on' if durable else 'off'}"))
        yield dsn
    finally:
        share.stop()


@contextmanager
def copy_for_peers(dsn: str) -> Iterator[str]:
    """The address of a copy of the database, in which the characters have only the indexes that the other stacks need,
    and no trigger. Nobody may be connected to the database."""
    name = f"{urlsplit(dsn).path[1:]}_of_peers"
    operator = re.sub("service@/[^?]*", "postgres@/postgres", dsn)
    copy = re.sub("@/[^?]*", f"@/{name}", dsn)
    setting = asyncio.run(fetch(dsn, "SELECT current_setting('synchronous_commit') AS now"))[0]["now"]
    try:
        asyncio.run(execute(operator, f"DROP DATABASE IF EXISTS {name}"))
        asyncio.run(execute(operator, f"CREATE DATABASE {name} TEMPLATE {urlsplit(dsn).path[1:]} OWNER service"))
        asyncio.run(execute(operator, f"ALTER DATABASE {name} SET synchronous_commit = {setting}"))
        asyncio.run(execute(copy, _SIMPLER))
        asyncio.run(execute(copy, "VACUUM ANALYZE"))
        yield copy
    finally:
        asyncio.run(execute(operator, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


_SIMPLER = f"""
    DO $$ DECLARE each text; BEGIN
        FOR each IN SELECT format('DROP INDEX %I', relname) FROM pg_index JOIN pg_class ON oid = indexrelid
            WHERE indrelid = 'characters'::regclass AND NOT indisprimary
             AND relname <> ALL ('{{{",".join(INDEXES_OF_PEERS)}}}')
        UNION ALL SELECT format('DROP TRIGGER %I ON characters', tgname) FROM pg_trigger
            WHERE tgrelid = 'characters'::regclass AND NOT tgisinternal
        LOOP EXECUTE each; END LOOP;
    END $$;
    CREATE INDEX ON characters (created_at, id) WHERE visibility = 'public' AND deleted_at IS NULL;
    -- Empty here. Without it, each deleted row would read the whole table for the foreign key of copies.
    CREATE INDEX ON characters (forked_from) WHERE forked_from IS NOT NULL
"""


def sign_in(server: Server) -> str:
    """The token of the user who writes in the benchmarks."""
    server.ask("POST", "/v1/users", body=BENCH)  # 409 if an earlier run has created it
    answer = server.ask("POST", "/v1/sessions", body={"login": BENCH["username"], "password": BENCH["password"]})
    if answer.status != 201:
        raise RuntimeError(f"The sign-in failed: {answer.body!r}")
    return str(answer.json["token"])


async def fetch(dsn: str, query: str, *values: Any) -> list[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        rows: list[Any] = await connection.fetch(query, *values)
        return rows
    finally:
        await connection.close()


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _piccolo(dsn: str, *arguments: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("piccolo"), *arguments],
        cwd=ROOT,
        env=with_programs(DATABASE_URL=dsn, ENVIRONMENT="development"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"piccolo {' '.join(arguments)}: {done.stdout}")
    if inserted := [
        line for line in done.stdout.splitlines() if line.startswith("Synthetic data:") and ": 0 " not in line
    ]:
        print(*inserted, file=sys.stderr, flush=True)
