"""The service behind pgbouncer in transaction mode, which gives each transaction another connection."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import pytest

from service.database import embedded
from tests.conftest import DATA_DIR
from tests.support.servers import (
    Service,
    directory_of_its_own,
    end_connections,
    execute,
    free_port,
    member_of,
    piccolo,
    wait_until,
    worker_of_its_own,
)

PRODUCTION = {"ENVIRONMENT": "production", "ALLOWED_HOSTS": "127.0.0.1", "SECRET_KEY": "0123456789abcdef" * 2}
SERVER_CONNECTIONS = 4


def why_without_pgbouncer() -> str:
    if (program := shutil.which("pgbouncer")) is None:
        return "pgbouncer is not on the PATH"
    version = re.search(r"(\d+)\.(\d+)", subprocess.run([program, "--version"], capture_output=True, text=True).stdout)
    if version is None or (int(version[1]), int(version[2])) < (1, 21):
        return "pgbouncer is older than 1.21"
    return ""


pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_without_pgbouncer()), reason=why_without_pgbouncer())]


@contextmanager
def pgbouncer(**options: str) -> Iterator[int]:
    """In front of the tests' PostgreSQL. Yields its port."""
    socket = parse_qs(urlsplit(embedded.dsn(DATA_DIR)).query)["host"][0]
    with directory_of_its_own() as directory:
        port = free_port()
        given = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": "transaction",
            "max_prepared_statements": "200",
            "default_pool_size": str(SERVER_CONNECTIONS),
            "max_client_conn": "500",
        } | options
        lines = [
            "[databases]",
            f"* = host={socket} port=5432 user=service",
            "[pgbouncer]",
            *(f"{name} = {value}" for name, value in given.items()),
        ]
        (directory / "pgbouncer.ini").write_text("\n".join(lines))
        as_user = [] if os.geteuid() else ["-u", Path(socket).owner()]  # it refuses to run as root
        with (directory / "log").open("w") as log:
            process = subprocess.Popen(["pgbouncer", *as_user, directory / "pgbouncer.ini"], stdout=log, stderr=log)
        try:
            wait_until(lambda: _listens(port), "pgbouncer did not start", patience=10)
            yield port
        finally:
            process.kill()  # SIGTERM waits for all clients
            process.wait(10)


def _listens(port: int) -> bool:
    with suppress(OSError), create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.fixture(scope="module")
def direct(fresh_database: str) -> str:
    assert piccolo("migrations", "forwards", "all", **PRODUCTION, DATABASE_URL=fresh_database).returncode == 0
    return fresh_database


def through(port: int, direct: str) -> dict[str, str]:
    name = direct.partition("@/")[2].partition("?")[0]
    pooled = f"postgresql://service@127.0.0.1:{port}/{name}?sslmode=disable"
    return PRODUCTION | {"DATABASE_URL": pooled, "DATABASE_DIRECT_URL": direct, "QUOTA_CHARACTERS": "30"}


@contextmanager
def settings_of_the_role(output: str) -> Iterator[None]:
    """What the service asks an administrator to run."""
    statements = re.findall(r"ALTER ROLE service IN DATABASE .*?;", output)
    assert len(statements) == 6, output
    operator = embedded.dsn(DATA_DIR).replace("service@/service", "postgres@/postgres")
    for statement in statements:
        asyncio.run(execute(operator, statement))
    yield


async def many_requests(service: Service) -> None:
    """More at once than the pooler has connections, of every kind: prepared, coalesced, in transactions."""
    async with member_of(service.url, "pooled") as member:
        stream = asyncio.create_task(first_change(member))
        await asyncio.sleep(1)
        bodies = [{"name": f"Pooled {number}", "tags": ["one"]} for number in range(30)]
        made = await asyncio.gather(*(member.post("/v1/characters", json=body) for body in bodies))
        assert [answer.status_code for answer in made] == [201] * 30
        assert "Pooled" in await asyncio.wait_for(stream, 15)
        refused = await member.post("/v1/characters", json={"name": "One too many"})
        assert (refused.status_code, refused.json()["type"]) == (403, "/problems/quota-exceeded")
        ids = [answer.json()["id"] for answer in made]
        for _ in range(5):
            reads = [member.get(f"/v1/characters/{each}") for each in ids]
            lists = [member.get("/v1/characters", params={"q": "Poled", "owner": "me"}) for _ in range(5)]
            writes = [member.patch(f"/v1/characters/{each}", json={"description": "x"}) for each in ids[:10]]
            dry = [member.patch(f"/v1/characters/{each}?dry_run=true", json={"name": "No"}) for each in ids[10:15]]
            statuses = [answer.status_code for answer in await asyncio.gather(*reads, *lists, *writes, *dry)]
            assert statuses == [200] * len(statuses)
        assert len((await member.get("/v1/changes", params={"limit": 100})).json()["items"]) == 30


async def first_change(member: httpx.AsyncClient) -> str:
    async with member.stream("GET", "/v1/changes", headers={"Accept": "text/event-stream"}) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            if line.startswith("data:") and "Pooled" in line:
                return line
    return ""


def test_the_service_works_through_a_pooler_in_transaction_mode(direct: str) -> None:
    with pgbouncer() as port, worker_of_its_own(workers=1, **through(port, direct)) as service:
        service.launch()
        assert service.wait() != 0, "the role has no settings yet"
        assert "Traceback" not in service.output
        with settings_of_the_role(service.output):
            asyncio.run(end_connections(direct))  # the pooler's, which were opened before
            asked = "from service.database.engine import DB; (await DB._run_in_pool('SHOW statement_timeout'))[0][0]\n"
            done = piccolo("shell", "run", given=asked, **through(port, direct))
            assert "Out[1]: '0'" in done.stdout, "a command may take longer than a request"
            service.start()
            ready = httpx.get(f"{service.url}/health/ready").json()
            assert (ready["status"], set(ready["checks"].values())) == ("ok", {"ok"})
            asyncio.run(many_requests(service))
            assert asyncio.run(_server_connections(direct)) <= SERVER_CONNECTIONS
            service.stop()
            assert '"level":"ERROR"' not in service.output.partition("Application startup complete")[2]


async def _server_connections(direct: str) -> int:
    connection = await asyncpg.connect(direct)
    try:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'character-service'"
            )
        )
    finally:
        await connection.close()


def test_migrations_run_through_a_pooler_in_one_transaction(fresh_database: str) -> None:
    """Both directions; the lock goes with the transaction, so a second run does not wait."""
    with pgbouncer() as port:
        pooled = through(port, fresh_database) | {"DATABASE_DIRECT_URL": ""}
        for _ in range(2):
            for command in (("backwards", "service", "1", "--auto_agree"), ("forwards", "all")):
                done = piccolo("migrations", *command, **pooled)
                assert done.returncode == 0, done.stdout + done.stderr


def test_a_pooler_that_drops_settings_is_noticed(direct: str) -> None:
    ignored = "statement_timeout, lock_timeout, idle_in_transaction_session_timeout, pg_trgm.word_similarity_threshold,"
    ignored += " service.quota_characters, service.quota_stored_bytes"
    with pgbouncer(pool_mode="session", ignore_startup_parameters=ignored) as port:
        environment = through(port, direct) | {"DATABASE_DIRECT_URL": "", "QUOTA_CHARACTERS": "31"}
        with worker_of_its_own(**environment) as service:
            service.start()
            assert "service.quota_characters = '31';" in service.output
            service.stop()


def test_a_pooler_that_refuses_settings_ends_the_start_in_one_line(direct: str) -> None:
    with (
        pgbouncer(pool_mode="session") as port,
        worker_of_its_own(**through(port, direct) | {"DATABASE_DIRECT_URL": ""}) as service,
    ):
        service.launch()
        assert service.wait() != 0
        assert "The database cannot be used: unsupported startup parameter" in service.output
        assert "Traceback" not in service.output
