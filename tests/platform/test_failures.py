"""Which errors of PostgreSQL, asyncpg and the system are answered with 503, and which with 400 or 500."""

import asyncio
import errno
import inspect
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from asyncpg import exceptions
from loguru import logger
from msgspec.structs import replace
from piccolo.querystring import QueryString

from service.auth.tables import Token
from service.auth.token_cache import forget_tokens
from service.database.engine import DB
from service.database.failures import to_service_error
from service.database.prepared import Prepared
from service.log import OncePerMinute
from service.settings import settings
from tests.conftest import character, client
from tests.support.pictures import draw_picture
from tests.support.servers import end_connections, execute

# By the first two characters of SQLSTATE, and by name where a class has more than one status or no SQLSTATE.
STATUS_OF_CLASS = {
    **dict.fromkeys(["08", "40", "53", "57"], 503),
    "22": 400,
    **dict.fromkeys(
        ["03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "23", "24", "25", "26", "27"], 500
    ),
    **dict.fromkeys(
        [
            "28",
            "2B",
            "2D",
            "2F",
            "34",
            "38",
            "39",
            "3B",
            "3D",
            "3F",
            "42",
            "44",
            "54",
            "55",
            "58",
            "72",
            "F0",
            "HV",
            "P0",
            "XX",
        ],
        500,
    ),
}
STATUS_OF_ERROR = {
    "ClientConfigurationError": 503,
    "FatalPostgresError": 500,
    "IdleInTransactionSessionTimeoutError": 503,
    "InsufficientPrivilegeError": 503,
    "InterfaceError": 503,
    "InternalClientError": 503,
    "InvalidCachedStatementError": 503,
    "LockNotAvailableError": 503,
    "OutdatedSchemaCacheError": 503,
    "PostgresError": 500,
    "ProtocolError": 503,
    "ReadOnlySQLTransactionError": 503,
    "TargetServerAttributeNotMatched": 503,
    "TransactionTimeoutError": 503,
    "UnknownPostgresError": 500,
    "UnsupportedClientFeatureError": 503,
    "UnsupportedServerFeatureError": 503,
}
STATUS_OF_NUMBER = {
    **dict.fromkeys(["ENOSPC", "EDQUOT", "EROFS", "EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EAGAIN"], 503),
    **dict.fromkeys(["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH"], 503),
    **dict.fromkeys(["EIO", "EACCES", "EPERM", "ENOENT", "EISDIR", "ENAMETOOLONG"], 500),
}


def test_every_error_of_asyncpg_has_a_status() -> None:
    kinds = {
        name: kind
        for name, kind in vars(exceptions).items()
        if inspect.isclass(kind) and issubclass(kind, Exception) and not issubclass(kind, Warning)
    }
    expected = {}
    for name, kind in kinds.items():
        state = getattr(kind, "sqlstate", None) or ""
        expected[name] = STATUS_OF_ERROR.get(name) or STATUS_OF_CLASS.get(state[:2], f"no status is known of {state}")
    assert {name: to_service_error(kind("message")).status for name, kind in kinds.items()} == expected
    assert STATUS_OF_ERROR.keys() <= kinds.keys()


@pytest.mark.parametrize("name", STATUS_OF_NUMBER)
def test_errors_of_the_system_have_a_status(name: str) -> None:
    number = getattr(errno, name)
    assert to_service_error(OSError(number, os.strerror(number))).status == STATUS_OF_NUMBER[name]


def test_what_passes_says_when_to_try_again() -> None:
    for error in (asyncpg.AdminShutdownError("x"), OSError(errno.ENOSPC, "x")):
        assert to_service_error(error).headers == {"Retry-After": "1"}


def assert_unavailable(answer: httpx.Response, detail: str) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["detail"] == detail


@pytest.fixture
async def read_only(alice: httpx.AsyncClient) -> AsyncIterator[None]:
    """Alice last used her token ten minutes ago, so that her next request writes its use."""
    await Token.update({Token.last_used_at: datetime.now(UTC) - timedelta(minutes=10)}, force=True)
    forget_tokens()
    await execute(DB.config["dsn"], "ALTER DATABASE service SET default_transaction_read_only = on")
    await end_connections(DB.config["dsn"])
    yield
    undo = "ALTER DATABASE service RESET default_transaction_read_only"
    await execute(DB.config["dsn"], f"BEGIN READ WRITE; {undo}; COMMIT")
    await end_connections(DB.config["dsn"])


async def test_a_database_that_only_reads_serves_reads(alice: httpx.AsyncClient, read_only: None) -> None:
    assert (await alice.get("/v1/users/me")).status_code == 200
    answer = await alice.post("/v1/characters", json={"name": "Too early"})
    assert_unavailable(answer, "The database accepts no changes at the moment.")


@asynccontextmanager
async def few_connections(stranger: httpx.AsyncClient) -> AsyncIterator[asyncpg.Connection]:
    """The pool has one or two connections, and PostgreSQL gives the service no more. Who reads characters waits until
    the yielded connection of an operator ends its transaction."""
    dsn = DB.config["dsn"]
    operator = await asyncpg.connect(dsn.replace("service@", "postgres@"))
    await end_connections(dsn)
    assert (await stranger.get("/v1/characters")).status_code == 200
    count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'service'"
    async with asyncio.timeout(5):  # those that ended are counted for a moment
        while await operator.fetchval(f"{count} AND application_name <> ''") != DB.open_connections():
            await asyncio.sleep(0.05)
    await operator.execute(f"ALTER ROLE service CONNECTION LIMIT {await operator.fetchval(count)}")
    try:
        await operator.execute("BEGIN; LOCK TABLE characters IN ACCESS EXCLUSIVE MODE")
        yield operator
    finally:
        await operator.execute("ROLLBACK; ALTER ROLE service CONNECTION LIMIT -1")
        await operator.close()


async def test_at_the_limit_of_the_role_requests_wait_for_a_connection(app: Any) -> None:
    strangers = [client(app, f"203.0.113.{number}") for number in range(6)]
    async with few_connections(strangers[0]) as operator:
        before = DB.open_connections()
        reads = [asyncio.create_task(stranger.get("/v1/characters")) for stranger in strangers]
        await asyncio.sleep(0.5)
        assert [read.done() for read in reads] == [False] * 6
        await operator.execute("ROLLBACK")
        assert [answer.status_code for answer in await asyncio.gather(*reads)] == [200] * 6
        assert DB.open_connections() == before < 6


async def test_at_the_limit_of_the_role_nobody_waits_for_long(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    strangers = [client(app, f"203.0.113.{number}") for number in range(6)]
    monkeypatch.setattr("service.database.pool.settings", replace(settings, database_acquire_timeout=0.5))
    async with few_connections(strangers[0]) as operator:
        *others, last = strangers[: DB.open_connections() + 1]
        held = [asyncio.create_task(stranger.get("/v1/characters")) for stranger in others]
        await asyncio.sleep(0.1)
        began = time.monotonic()
        assert_unavailable(await last.get("/v1/characters"), "The database cannot be reached.")
        assert 0.2 < time.monotonic() - began < 1.5
        await operator.execute("ROLLBACK")
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200] * len(held)


async def test_a_changed_table_costs_only_a_transaction_a_second_try(app: object) -> None:
    dsn = DB.config["dsn"]
    await execute(dsn, "CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)")
    query = Prepared(lambda: QueryString("SELECT * FROM changing"))
    try:
        assert dict(await query.one()) == {"a": 1}
        await execute(dsn, "ALTER TABLE changing ADD b int")
        assert dict(await query.one()) == {"a": 1, "b": None}
        await execute(dsn, "ALTER TABLE changing ADD c int")
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            async with DB.transaction():
                await query.one()
        async with DB.transaction():
            assert dict(await query.one()) == {"a": 1, "b": None, "c": None}
    finally:
        await execute(dsn, "DROP TABLE changing")


async def test_an_upload_to_a_full_disk_is_unavailable(
    alice: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mira = await character(alice)
    content = draw_picture()
    with monkeypatch.context() as patch:
        full = lambda **_: (os.open("/dev/full", os.O_WRONLY), str(tmp_path / "missing"))  # noqa: E731
        patch.setattr("service.media.storage.tempfile.mkstemp", full)
        for path in (f"/v1/characters/{mira['id']}/portrait", "/v1/users/me/avatar"):
            answer = await alice.put(path, content=content, headers={"Content-Type": "image/png"})
            assert_unavailable(answer, "The storage accepts no files at the moment.")
    answer = await alice.put(path, content=content, headers={"Content-Type": "image/png"})
    assert answer.is_success


async def test_a_missing_table_passes_only_while_migrations_are_pending(alice: httpx.AsyncClient) -> None:
    dsn = DB.config["dsn"]
    newest = "(SELECT max(name) FROM migration WHERE app_name = 'service')"
    await execute(dsn, "ALTER TABLE characters RENAME TO later")
    try:
        assert (await alice.get("/v1/characters")).status_code == 500
        await execute(dsn, f"UPDATE migration SET app_name = 'service, later' WHERE name = {newest}")
        assert (await alice.get("/health/ready")).json()["checks"]["migrations"] == "pending"
        answer = await alice.get("/v1/characters")
        assert_unavailable(answer, "The database lacks migrations of this release of the service.")
    finally:
        await execute(dsn, "UPDATE migration SET app_name = 'service' WHERE app_name = 'service, later'")
        await execute(dsn, "ALTER TABLE later RENAME TO characters")
    assert (await alice.get("/health/ready")).json()["checks"]["migrations"] == "ok"
    assert (await alice.get("/v1/characters")).status_code == 200


async def test_a_revoked_privilege_is_a_fault_of_the_deployment(
    alice: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered 503, logged once, and readiness says so."""
    monkeypatch.setattr("service.web.problems._DEPLOYMENT", OncePerMinute())
    lines: list[Any] = []
    sink = logger.add(lines.append, level="WARNING")
    await execute(DB.config["dsn"], "REVOKE INSERT ON characters FROM service")
    try:
        for _ in range(3):
            answer = await alice.post("/v1/characters", json={"name": "Mira"})
            assert_unavailable(answer, "The database refuses what the service needs for this request.")
        ready = await alice.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["checks"]["privileges"] == "missing"
        assert (await alice.get("/v1/characters")).status_code == 200
    finally:
        logger.remove(sink)
        await execute(DB.config["dsn"], "GRANT INSERT ON characters TO service")
    (line,) = lines
    assert line.record["level"].name == "ERROR"
    fault = "The role of the service lacks a privilege: permission denied for table characters"
    assert line.record["message"] == fault
    assert line.record["exception"] is None
    assert (await alice.get("/health/ready")).json()["checks"]["privileges"] == "ok"
