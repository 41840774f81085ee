"""``python -m service`` as an operator meets it: start, stop, crash, refusal, and what it writes to its log."""

import asyncio
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import pytest

from service.database import embedded
from tests.conftest import DATA_DIR, PASSWORD
from tests.support.servers import (
    PIPELINE,
    VARIABLES,
    Service,
    execute,
    free_port,
    piccolo,
    processes_of,
    service_of_its_own,
    standby_of_its_own,
    wait_until,
    web_command,
    worker_of_its_own,
)

pytestmark = pytest.mark.slow  # a process each

PRODUCTION = {
    "ENVIRONMENT": "production",
    "ALLOWED_HOSTS": "127.0.0.1",
    "SECRET_KEY": "JDnX3vGkq0m7sYb2cP9wLtRz5hFaU8e1",
}
DATABASE_PASSWORD = "7Wq-database-password"


@pytest.fixture(scope="module")
def one_service() -> Iterator[Service]:
    with service_of_its_own(DATABASE_LOCK_TIMEOUT="20", DATABASE_STATEMENT_TIMEOUT="20") as service:
        yield service


@pytest.fixture
def service(one_service: Service) -> Iterator[Service]:
    """Not running, with what the tests before stored."""
    yield one_service
    if one_service.is_running:
        one_service.stop()


@pytest.fixture
def started(service: Service) -> Service:
    return service.start()


@contextmanager
def signed_in(service: Service, username: str, **headers: str) -> Iterator[httpx.Client]:
    with service.client(**headers) as client:
        account = {"email": f"{username}@example.org", "username": username, "password": PASSWORD}
        assert client.post("/v1/users", json=account).status_code in (201, 409)
        session = client.post("/v1/sessions", json={"login": username, "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {session.json()['token']}"
        yield client


# Start and stop


def test_the_start_says_where_everything_is(started: Service) -> None:
    addresses = dict(re.findall(r"(the API|its docs|the admin) +(http\S+)", started.output))
    assert addresses == {
        "the API": f"{started.url}/v1",
        "its docs": f"{started.url}/docs",
        "the admin": f"{started.url}/admin/",
    }
    assert httpx.get(addresses["its docs"]).status_code == 200
    assert httpx.get(addresses["the admin"]).status_code == 200
    assert httpx.get(f"{addresses['the API']}/characters").json()["items"], "the seeds are there"
    assert "piccolo service operator create" in started.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything_and_is_no_failure(service: Service, number: signal.Signals) -> None:
    service.start()
    assert len(processes_of(service.data_dir)) > 2
    assert service.stop(number) == 0
    assert processes_of(service.data_dir) == {}
    assert "Traceback" not in service.output


def test_a_signal_while_it_starts_ends_everything_too(service: Service) -> None:
    service.launch()
    wait_until(lambda: bool(processes_of(service.data_dir)), "PostgreSQL did not start")
    assert service.stop() == 0
    wait_until(lambda: not processes_of(service.data_dir), "PostgreSQL did not end", patience=10)


def test_the_second_start_is_quick_and_finds_what_was_stored(service: Service) -> None:
    service.start()
    with signed_in(service, "keeper") as keeper:
        made = keeper.post("/v1/characters", json={"name": "Kept"}).json()
    service.stop()
    began = time.monotonic()
    service.start()
    assert time.monotonic() - began < 10
    with signed_in(service, "keeper") as keeper:
        assert keeper.get(f"/v1/characters/{made['id']}").json() == made
    service.stop()


async def test_a_request_in_flight_is_answered_before_the_end(started: Service) -> None:
    database = await asyncpg.connect(embedded.dsn(started.data_dir))
    async with httpx.AsyncClient(base_url=started.url, timeout=20) as stranger:
        await database.execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        account = {"email": "late@example.org", "username": "late", "password": PASSWORD}
        request = asyncio.create_task(stranger.post("/v1/users", json=account))
        await _until_one_waits(database)
        started.send(signal.SIGTERM)
        await _until_nobody_is_let_in(started)
        assert not request.done()
        await database.execute("COMMIT")
        await database.close()
        assert (await request).status_code == 201
    assert started.wait() == 0
    started.start()
    assert httpx.get(f"{started.url}/v1/users/late").status_code == 200


async def _until_one_waits(database: asyncpg.Connection) -> None:
    async with asyncio.timeout(10):
        while not await database.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            await asyncio.sleep(0.02)


async def _until_nobody_is_let_in(service: Service) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                (await asyncio.open_connection("127.0.0.1", service.port))[1].close()
            except ConnectionRefusedError:
                return
            await asyncio.sleep(0.02)


def test_what_was_acknowledged_survives_kill_9(service: Service) -> None:
    service.start()
    with signed_in(service, "writer") as writer:
        headers = dict(writer.headers)
    acknowledged = asyncio.run(_write_until_it_is_killed(service, headers))
    service.start()
    with service.client(**headers) as reader:
        lost = [made for made in acknowledged if reader.get(f"/v1/characters/{made['id']}").json() != made]
    service.stop()
    assert len(acknowledged) > 20
    assert lost == []


async def _write_until_it_is_killed(service: Service, headers: dict[str, str]) -> list[Any]:
    acknowledged: list[Any] = []

    async def write(name: str) -> None:
        async with httpx.AsyncClient(base_url=service.url, headers=headers) as writer:
            while True:
                answer = await writer.post("/v1/characters", json={"name": name})
                assert answer.status_code == 201, answer.text
                acknowledged.append(answer.json())

    writers = [asyncio.create_task(write(f"Writer {number}")) for number in range(4)]
    async with asyncio.timeout(20):
        while len(acknowledged) < 40:
            await asyncio.sleep(0.005)
    service.stop(signal.SIGKILL)
    ends = await asyncio.gather(*writers, return_exceptions=True)
    assert all(isinstance(end, httpx.TransportError) for end in ends), ends
    return acknowledged


def test_a_port_that_is_taken_is_told_in_one_sentence_before_anything_is_made(started: Service) -> None:
    with service_of_its_own(PORT=str(started.port)) as second:
        second.launch()
        assert second.wait() == 1
        assert second.output == (
            f"127.0.0.1:{started.port} cannot be served: Address already in use. Set PORT or HOST to another.\n"
        )
        assert not second.data_dir.exists()


# Production


@pytest.mark.parametrize("command", [("-m", "service"), ("-m", "uvicorn", "service.app:app")])
def test_production_names_all_it_lacks_and_does_not_start(command: tuple[str, ...]) -> None:
    with service_of_its_own(command, ENVIRONMENT="production") as service:
        service.launch()
        assert service.wait() not in (0, None)
        for variable in ("DATABASE_URL", "ALLOWED_HOSTS", "SECRET_KEY"):
            assert f"{variable}: required in production" in service.output
        assert "Traceback" not in service.output
        assert not service.data_dir.exists()


@pytest.fixture(scope="module", params=["python -m service", "Procfile"])
def production(request: pytest.FixtureRequest, fresh_database: str) -> Iterator[Service]:
    """Serving from a database that was migrated as the Procfile says."""
    database = {"DATABASE_URL": fresh_database.replace("service@", f"service:{DATABASE_PASSWORD}@")}
    assert piccolo("migrations", "forwards", "all", **PRODUCTION, **database).returncode == 0
    with service_of_its_own(**PRODUCTION, **database) as service:
        if request.param == "Procfile":
            service.command = web_command(service.port)
        yield service.start()


def test_production_never_seeds(production: Service) -> None:
    with production.client() as stranger:
        assert stranger.get("/v1/characters").json()["items"] == []
        assert stranger.get("/v1/templates").json()["items"] == []
    asked = piccolo(
        "service", "seed", **{name: production.environment[name] for name in VARIABLES & set(production.environment)}
    )
    assert asked.returncode != 0
    assert "Seeds are for development" in asked.stderr + asked.stdout


def test_production_never_starts_an_embedded_database(production: Service) -> None:
    assert production.process is not None
    assert set(processes_of(production.directory)) == {production.process.pid}
    assert not (production.data_dir / "postgres").exists()


def test_the_log_of_production(production: Service, fresh_database: str) -> None:
    """Line by line JSON, one line for each request, and no secret, whatever happens."""
    secrets = [PASSWORD, DATABASE_PASSWORD, PRODUCTION["SECRET_KEY"], "a-wrong-password"]
    already_told = len(production.stdout.splitlines())
    request_id, username = f"the-log-{production.port}", f"secretive-{production.port}"
    with signed_in(production, username, **{"X-Request-ID": request_id}) as client:
        secrets.append(client.headers["Authorization"].removeprefix("Bearer "))
        client.post("/v1/sessions", json={"login": username, "password": "a-wrong-password"})
        secrets.append(
            client.post(
                "/v1/api-keys", json={"name": "a", "scopes": ["characters:read"], "current_password": PASSWORD}
            ).json()["token"]
        )
        made = client.post("/v1/characters", json={"name": "Logged"}).json()
        assert client.get(f"/v1/characters/{made['id']}").status_code == 200
        assert client.get("/v1/nowhere").status_code == 404
        with _broken_characters(fresh_database):
            assert client.get(f"/v1/characters/{made['id']}").status_code == 500
            assert client.post("/v1/characters", json={"name": "Logged"}).status_code == 500
    requests = production.access_lines(request_id, 9)
    assert production.output == production.stdout, "nothing goes to standard error"
    lines = [json.loads(line) for line in production.stdout.splitlines()[already_told:]]
    assert all(set(line) >= {"time", "level", "logger", "message"} for line in lines)
    assert [(line["method"], line["path"], line["route"], line["status"]) for line in requests] == [
        ("POST", "/v1/users", "/v1/users", 201),
        ("POST", "/v1/sessions", "/v1/sessions", 201),
        ("POST", "/v1/sessions", "/v1/sessions", 401),
        ("POST", "/v1/api-keys", "/v1/api-keys", 201),
        ("POST", "/v1/characters", "/v1/characters", 201),
        ("GET", f"/v1/characters/{made['id']}", "/v1/characters/{character_id}", 200),
        ("GET", "/v1/nowhere", "-", 404),
        ("GET", f"/v1/characters/{made['id']}", "/v1/characters/{character_id}", 500),
        ("POST", "/v1/characters", "/v1/characters", 500),
    ]
    assert all(line["milliseconds"] > 0 for line in requests)
    failures = [line for line in lines if "exception" in line]
    assert len(failures) == 2, "each failure once"
    assert all("UndefinedTableError" in line["exception"] and line["request_id"] == request_id for line in failures)
    assert [secret for secret in secrets if secret in production.output] == []


@contextmanager
def _broken_characters(dsn: str) -> Iterator[None]:
    asyncio.run(execute(dsn, "ALTER TABLE characters RENAME TO characters_away"))
    try:
        yield
    finally:
        asyncio.run(execute(dsn, "ALTER TABLE characters_away RENAME TO characters"))


@pytest.mark.parametrize("command", [PIPELINE, None], ids=["python -m service", "Procfile"])
def test_a_database_that_starts_later_is_waited_for(
    database: None, fresh_database: str, command: tuple[str, ...] | None
) -> None:
    """It is reached over TCP, through a relay that starts later."""
    socket_of_postgres = parse_qs(urlsplit(embedded.dsn(DATA_DIR)).query)["host"][0] + "/.s.PGSQL.5432"
    port, name = free_port(), fresh_database.partition("@/")[2].partition("?")[0]
    environment = PRODUCTION | {"DATABASE_URL": f"postgresql://service@127.0.0.1:{port}/{name}?sslmode=disable"}
    with worker_of_its_own(**environment) as service:
        service.command = command or service.command
        service.launch()
        wait_until(lambda: "The database cannot be reached yet" in service.output, "it did not try", patience=10)
        assert service.is_running
        with relay(port, socket_of_postgres):
            service.wait_until_it_answers()
            service.stop()
        assert "Traceback" not in service.output


@pytest.mark.parametrize("command", [PIPELINE, None], ids=["python -m service", "Procfile"])
def test_a_database_that_refuses_for_good_is_told_in_one_sentence(
    database: None, command: tuple[str, ...] | None
) -> None:
    nobody = embedded.dsn(DATA_DIR).replace("service@/service", "nobody@/service")
    with worker_of_its_own(**PRODUCTION | {"DATABASE_URL": nobody}) as service:
        service.command = command or service.command
        service.launch()
        assert service.wait() != 0
        output = service.output.replace("\\", "")  # in lines of JSON
    assert 'The database cannot be used: role "nobody" does not exist' in output
    assert "Traceback" not in output


def test_a_standby_serves_reads_and_says_that_it_is_one(service: Service) -> None:
    service.start()
    with signed_in(service, "reader") as reader:
        made = reader.post("/v1/characters", json={"name": "Replicated"}).json()
        headers = dict(reader.headers)
    service.stop()
    with (
        standby_of_its_own(service.data_dir) as standby,
        worker_of_its_own(**PRODUCTION, DATABASE_URL=embedded.dsn(standby)) as worker,
    ):
        with worker.start().client(**headers) as reader:
            ready = reader.get("/health/ready")
            assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
            assert ready.json()["checks"] == {
                "database": "ok",
                "migrations": "ok",
                "writes": "in recovery",
                "privileges": "ok",
                "feed": "ok",
                "storage": "ok",
            }
            assert reader.get(f"/v1/characters/{made['id']}").json() == made
            assert reader.get("/v1/characters").status_code == 200
            for answer in (reader.get("/v1/changes"), reader.post("/v1/characters", json={"name": "Too early"})):
                assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), answer.text
            assert "outbox_messages 0.0" in reader.get("/metrics").text
        worker.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells PostgreSQL of the supervisor's death")
def test_a_killed_supervisor_is_started_again(started: Service) -> None:
    with signed_in(started, "survivor") as member:
        made = member.post("/v1/characters", json={"name": "Survivor"}).json()
        os.kill(int((started.data_dir / "postgres.supervisor").read_text()), signal.SIGKILL)
        wait_until(lambda: member.get("/health/ready").status_code == 503, "PostgreSQL did not end", patience=10)
        wait_until(lambda: member.get("/health/ready").status_code == 200, "PostgreSQL did not start", patience=15)
        assert member.get(f"/v1/characters/{made['id']}").json() == made
        assert member.post("/v1/characters", json={"name": "Later"}).status_code == 201
    assert started.stop() == 0
    assert processes_of(started.data_dir) == {}


# Several workers


@pytest.fixture
def two_workers(fresh_database: str) -> Iterator[Service]:
    """Two workers with a directory for temporary files of their own."""
    environment = PRODUCTION | {"DATABASE_URL": fresh_database}
    assert piccolo("migrations", "forwards", "all", **environment).returncode == 0
    with worker_of_its_own(workers=2, **environment) as service:
        temporary = service.directory / "tmp"
        temporary.mkdir()
        service.environment["TMPDIR"] = str(temporary)
        yield service.start()


def read_metrics(service: Service) -> dict[str, float]:
    """What any of the workers answers: each connection is new."""
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def workers_of(service: Service) -> set[int]:
    return {number for number, command in processes_of(service.directory).items() if "spawn_main" in command}


def test_metrics_count_the_requests_of_all_workers(two_workers: Service) -> None:
    requests, connections = 'http_requests_total{method="GET",route="/v1/characters",status="200"}', 60
    wait_until(lambda: len(workers_of(two_workers)) == 2, "two workers did not start")
    wait_until(lambda: two_workers.stdout.count("Application startup complete") == 2, "they were not ready")
    for _ in range(connections):
        assert httpx.get(f"{two_workers.url}/v1/characters").status_code == 200
    directories = list((two_workers.directory / "tmp").glob("character-service-metrics-*"))
    assert len(directories) == 1
    assert len(list(directories[0].glob("counter_*.db"))) == 2
    for _ in range(20):
        found = read_metrics(two_workers)
        assert found[requests] == connections
        assert found['database_connections{state="open"}'] == 4, "two for each"
        assert "valkey_up" not in found
    killed = min(workers_of(two_workers))
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(workers_of(two_workers) - {killed}) == 2, "it did not start again")
    wait_until(lambda: two_workers.stdout.count("Application startup complete") == 3, "it was not ready")
    for _ in range(20):
        found = read_metrics(two_workers)
        assert found[requests] == connections, "counters never fall"
    assert found['database_connections{state="open"}'] == 4, "those of the killed worker do not count"
    assert two_workers.stop() in (0, -signal.SIGTERM)
    assert list((two_workers.directory / "tmp").iterdir()) == []
    assert all(json.loads(line) for line in two_workers.stdout.splitlines()), "also those of uvicorn itself"
    assert two_workers.output == two_workers.stdout


def test_a_fault_in_the_settings_is_told_once_for_all_workers(database: None) -> None:
    with worker_of_its_own(workers=2, ENVIRONMENT="production", PORT="http") as service:
        service.launch()
        assert service.wait() == 1
        assert service.output.count("The configuration is not valid:") == 1
        assert "PORT: Expected `int`" in service.output
        assert "Traceback" not in service.output


@contextmanager
def relay(port: int, path: str) -> Iterator[None]:
    """Passes connections to this port on to a Unix socket."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(copy(reader, to_writer), copy(to_reader, writer))

    async def serve() -> None:
        async with await asyncio.start_server(pass_on, "127.0.0.1", port):
            listening.set()
            while not ended.is_set():
                await asyncio.sleep(0.05)

    listening, ended = threading.Event(), threading.Event()
    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert listening.wait(5)
        yield
    finally:
        ended.set()
        thread.join()


def test_production_ends_by_a_signal_without_failure(production: Service) -> None:
    assert production.stop() in (0, -signal.SIGTERM)  # as uvicorn ends, by itself, once it has shut down
    assert '"Application shutdown complete."' in production.stdout
    assert all(json.loads(line) for line in production.stdout.splitlines())
