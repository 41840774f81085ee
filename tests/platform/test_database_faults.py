"""When PostgreSQL stops or hangs: the service answers 503, leaks no connection and recovers by itself."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
from piccolo.querystring import QueryString

from service.database import embedded, pool
from service.database.engine import DB
from service.database.held import HOLD, slow_work_allowed
from service.database.prepared import Prepared
from service.errors import Unavailable
from service.settings import settings
from tests.conftest import PASSWORD
from tests.support.servers import ROOT, Service, environment_of, execute, processes_of, service_of_its_own, wait_until

# A PostgreSQL that goes away


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with service_of_its_own(DATABASE_STATEMENT_TIMEOUT="0.5", DATABASE_ACQUIRE_TIMEOUT="1") as service:
        yield service.start()


@pytest.fixture(scope="module")
def member(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        account = {"email": "faith@example.org", "username": "faith", "password": PASSWORD}
        assert client.post("/v1/users", json=account).status_code == 201
        session = client.post("/v1/sessions", json={"login": "faith", "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {session.json()['token']}"
        yield client


@pytest.fixture(autouse=True)
def ready_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """By itself, after each test."""
    yield
    if "service" in request.fixturenames:
        service = request.getfixturevalue("service")
        wait_until(lambda: httpx.get(f"{service.url}/health/ready").status_code == 200, "not ready again", patience=15)


def postmaster(service: Service) -> int:
    return int((service.data_dir / "postgres" / "postmaster.pid").read_text().partition("\n")[0])


def backends(service: Service) -> list[int]:
    """The processes at the other end of the service's connections."""
    return [number for number, command in processes_of(service.data_dir).items() if "postgres: service" in command]


@contextmanager
def postgres_away(service: Service) -> Iterator[None]:
    """Killed, and its supervisor kept from starting it again until the block ends."""
    supervisor = int((service.data_dir / "postgres.supervisor").read_text())
    os.kill(supervisor, signal.SIGSTOP)
    try:
        os.kill(postmaster(service), signal.SIGKILL)
        wait_until(lambda: not backends(service), "the connections did not end")
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)


@contextmanager
def postgres_hanging(service: Service) -> Iterator[None]:
    """It keeps its connections, takes new ones, and answers none."""
    os.kill(postmaster(service), signal.SIGSTOP)  # first: it makes no more backends
    stopped = [*backends(service), postmaster(service)]
    for number in stopped:
        os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        for number in stopped:
            os.kill(number, signal.SIGCONT)


HANGING = pytest.param(postgres_hanging, marks=pytest.mark.slow)


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.json()["type"] == "/problems/unavailable"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("fault", [postgres_away, HANGING])
def test_reads_and_writes_are_unavailable_meanwhile(service: Service, member: httpx.Client, fault: Any) -> None:
    member.get("/v1/users/me")  # the token is remembered: also what comes after authentication is asked
    with fault(service):
        assert_unavailable(member.get("/v1/users/me"))
        assert_unavailable(member.post("/v1/characters", json={"name": "Too early"}))
        assert_unavailable(member.post("/v1/sessions", json={"login": "faith", "password": PASSWORD}))
    for method, path, body in (("GET", "/v1/users/me", None), ("POST", "/v1/characters", {"name": "In time"})):
        request = partial(member.request, method, path, json=body)
        wait_until(lambda request=request: request().is_success, "no recovery", patience=10)


@pytest.mark.parametrize("fault", [postgres_away, HANGING])
def test_the_process_lives_and_is_not_ready(service: Service, member: httpx.Client, fault: Any) -> None:
    with fault(service):
        assert member.get("/health/live").status_code == 200
        ready = member.get("/health/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"] == dict.fromkeys(["migrations", "writes", "privileges", "feed"], "unknown") | {
            "database": "away",
            "storage": "ok",
        }
        assert int(ready.headers["Retry-After"]) >= 1
        assert member.get("/docs").status_code == 200, "what needs no database goes on"


async def test_a_crash_under_load_costs_no_acknowledged_write_and_no_500(
    service: Service, member: httpx.Client
) -> None:
    answers: list[httpx.Response] = []

    async def write() -> None:
        async with httpx.AsyncClient(base_url=service.url, headers=member.headers, timeout=20) as client:
            while True:
                answers.append(await client.post("/v1/characters", json={"name": "Under load"}))

    async def until_the_last_is(status: int) -> None:
        async with asyncio.timeout(15):
            while not answers or answers[-1].status_code != status:
                await asyncio.sleep(0.01)

    writers = [asyncio.create_task(write()) for _ in range(4)]
    await until_the_last_is(201)
    os.kill(postmaster(service), signal.SIGKILL)
    await until_the_last_is(503)
    await until_the_last_is(201)
    for writer in writers:
        writer.cancel()
    await asyncio.wait(writers)
    refused = [answer for answer in answers if answer.status_code != 201]
    for answer in refused:
        assert_unavailable(answer)
    acknowledged = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert acknowledged - await stored(embedded.dsn(service.data_dir)) == set()


async def stored(dsn: str) -> set[str]:
    async with asyncio.timeout(15):
        while True:  # a late answer from before the crash may come while PostgreSQL still recovers
            with suppress(ConnectionRefusedError, asyncpg.CannotConnectNowError):
                postgres = await asyncpg.connect(dsn)
                break
            await asyncio.sleep(0.1)
    try:
        return {str(row["id"]) for row in await postgres.fetch("SELECT id FROM characters")}
    finally:
        await postgres.close()


# The pool


@pytest.fixture
async def whole_pool(app: Any) -> AsyncIterator[None]:
    """Afterwards every connection of the pool can be had, all at once."""
    yield
    assert DB.pool is not None
    async with AsyncExitStack() as stack:
        for _ in range(DB.pool.get_max_size()):
            connection = await stack.enter_async_context(another_connection())
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT 1") == 1


@pytest.fixture
async def late_failure(app: Any) -> AsyncIterator[None]:
    """A table whose constraint is looked at by COMMIT, which it delays by ``seconds``, and fails when they are null."""
    dsn = DB.config["dsn"]
    await execute(
        dsn,
        """
        CREATE TABLE late (seconds float);
        CREATE FUNCTION judge_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.seconds IS NULL THEN RAISE EXCEPTION 'late' USING ERRCODE = 'foreign_key_violation'; END IF;
            PERFORM pg_sleep(NEW.seconds); RETURN NULL;
        END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION judge_late();
        """,
    )
    yield
    await execute(dsn, "DROP TABLE late; DROP FUNCTION judge_late()")


async def insert_late(seconds: str) -> None:
    async with DB.transaction():
        await DB.run_ddl(f"INSERT INTO late VALUES ({seconds})")


async def test_a_commit_that_fails_costs_no_connection(late_failure: None, whole_pool: None) -> None:
    for _ in range(settings.database_pool_size + 2):
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            await insert_late("NULL")
    assert await count_late() == 0


async def sleep_in_a_query() -> None:
    async with DB.connection() as connection:
        await connection.execute("SELECT pg_sleep(60)")


async def sleep_in_a_transaction() -> None:
    async with DB.transaction():
        await DB.run_ddl("INSERT INTO late VALUES (0)")
        await DB.run_ddl("SELECT pg_sleep(60)")


@pytest.mark.parametrize(
    ("work", "state"),
    [
        (lambda: insert_late("0.2"), "COMMIT%"),
        (sleep_in_a_transaction, "SELECT pg_sleep%"),
        (sleep_in_a_query, "SELECT pg_sleep%"),
    ],
    ids=["COMMIT", "a transaction", "a query"],
)
async def test_a_cancellation_costs_no_connection(
    late_failure: None, whole_pool: None, work: Callable[[], Awaitable[None]], state: str
) -> None:
    for _ in range(settings.database_pool_size + 2):
        await cancel_when_one_does(state, asyncio.ensure_future(work()))


async def test_a_cancelled_transaction_leaves_nothing(late_failure: None, whole_pool: None) -> None:
    await cancel_when_one_does("SELECT pg_sleep%", asyncio.ensure_future(sleep_in_a_transaction()))
    assert await count_late() == 0


async def cancel_when_one_does(state: str, task: asyncio.Future[None]) -> None:
    await until(lambda count: count > 0, state)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda count: count == 0, state)


async def until(is_so: Callable[[int], bool], state: str) -> None:
    query = "SELECT count(*) AS n FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1"
    async with asyncio.timeout(10):
        while not is_so((await DB._run_in_pool(query, [state]))[0]["n"]):
            await asyncio.sleep(0.005)


async def count_late() -> int:
    return int((await DB._run_in_pool("SELECT count(*) AS n FROM late"))[0]["n"])


@asynccontextmanager
async def another_connection() -> AsyncIterator[Any]:
    """As another request holds it: one task may have only one."""
    with slow_work_allowed():
        async with DB.connection() as connection:
            HOLD.set(None)
            yield connection


@asynccontextmanager
async def exhausted_pool() -> AsyncIterator[list[Any]]:
    assert DB.pool is not None
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(another_connection()) for _ in range(DB.pool.get_max_size())]


async def test_a_waiting_task_gets_the_next_free_connection(whole_pool: None) -> None:
    async def ask() -> int:
        return int(await Prepared(lambda: QueryString("SELECT 1")).value())

    async with exhausted_pool():
        waiting = [asyncio.create_task(ask()) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
    async with asyncio.timeout(2):
        assert await asyncio.gather(*waiting) == [1] * 20


async def test_a_connection_that_broke_while_idle_is_not_used(whole_pool: None) -> None:
    async with exhausted_pool():
        pass  # as many as there can be are free now
    assert DB.idle_connections() == settings.database_pool_size
    await execute(
        DB.config["dsn"],
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'character-service'",
    )
    await asyncio.sleep(0.1)
    async with exhausted_pool() as connections:
        assert [connection.is_closed() for connection in connections] == [False] * len(connections)


async def test_a_connection_that_was_idle_for_long_is_replaced(
    whole_pool: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def process() -> int:
        return int(await Prepared(lambda: QueryString("SELECT pg_backend_pid()")).value())

    first = await process()
    assert await process() == first
    monkeypatch.setattr(pool, "_MAX_IDLE_TIME", 0)
    assert await process() != first


async def test_an_exhausted_pool_is_unavailable_in_time(
    stranger: httpx.AsyncClient, whole_pool: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "settings", msgspec.structs.replace(settings, database_acquire_timeout=0.2))
    async with exhausted_pool():
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await sleep_in_a_query()
        with pytest.raises(Unavailable):
            await insert_late("0")
        assert_unavailable(await stranger.get("/v1/characters"))
        assert 0.5 < time.monotonic() - began < 5
    assert (await stranger.get("/v1/characters")).status_code == 200


# Importing


def test_nothing_connects_when_the_service_is_imported() -> None:
    """Not even to a server that would take the connection and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        dsn = f"postgresql://service@127.0.0.1:{silent.getsockname()[1]}/service"
        program = "import service.app, piccolo_conf"
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment_of(DATABASE_URL=dsn), check=True, timeout=15
        )
        with pytest.raises(BlockingIOError):
            silent.accept()
