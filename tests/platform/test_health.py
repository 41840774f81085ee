"""Readiness and metrics: what each says, and when the service does not count as ready."""

import asyncio
import math
import re
import shutil
import threading
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from service.commands.resync import resync
from service.database import embedded
from service.database.engine import DB
from service.database.held import HOLD, slow_work_allowed
from service.database.shares import ON_BEHALF_OF, SHARES
from service.health.checks import check_together
from service.identifiers import uuid7
from service.mail.tables import Message
from service.settings import VERSION, settings
from tests.conftest import DATA_DIR, client
from tests.support.servers import ROOT, end_connections, execute

OPERATOR = embedded.dsn(DATA_DIR).replace("service@/service", "postgres@/postgres")


ALL_OK = dict.fromkeys(["database", "migrations", "writes", "privileges", "feed", "storage"], "ok")


# What only degrades: storage


@pytest.mark.parametrize("below", ["", "data"])
async def test_storage_at_a_file_degrades(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    await assert_not_writable(stranger, monkeypatch, file / below)


async def test_storage_that_refuses_writes_degrades(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await assert_not_writable(stranger, monkeypatch, Path("/proc/self"))  # refuses writes from root, too


METRICS = ["/metrics", "/metrics/", "//metrics", "/metrics//", "/metrics?x", "/metrics/?x", "/%6detrics", "/metrics%2F"]


@pytest.mark.parametrize("path", METRICS)
async def test_metrics_are_for_this_machine_or_the_token(
    app: Any, stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("service.health.access.settings", msgspec.structs.replace(settings, metrics_token="t0ken"))
    url = httpx.URL(f"http://localhost{path}")
    assert (await stranger.get(url)).status_code == 200
    proxies = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "X-Forwarded-Proto": "https",
        "Via": "1.1 proxy",
    }
    for name, value in proxies.items():
        assert (await stranger.get(url, headers={name: value})).status_code == 403, name
    async with client(app, "203.0.113.9") as elsewhere:
        for token, status in (("", 403), ("t0ke", 403), ("t\xf6ken", 403), ("t0ken", 200)):
            headers = [("Authorization", f"Bearer {token}".encode("latin-1"))]
            assert (await elsewhere.get(url, headers=headers)).status_code == status, token


@pytest.mark.parametrize(
    ("token", "status"), [("t0ken", 200), ("t0ke", 400), ("", 400)], ids=["right", "wrong", "none"]
)
async def test_a_client_with_the_token_may_name_any_host(
    app: Any, monkeypatch: pytest.MonkeyPatch, token: str, status: int
) -> None:
    monkeypatch.setattr("service.health.access.settings", msgspec.structs.replace(settings, metrics_token="t0ken"))
    for address in ("127.0.0.1", "10.0.0.7"):
        headers = {"Host": "10.0.0.9:8000", "Authorization": f"Bearer {token}"}
        async with client(app, address) as prometheus:
            assert (await prometheus.get("/metrics", headers=headers)).status_code == status, address


async def assert_not_writable(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr("service.health.checks.settings", msgspec.structs.replace(settings, data_dir=directory))
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["checks"] == ALL_OK | {"storage": "not writable"}


async def test_the_directory_of_files_counts_not_the_one_that_it_is_in(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It may be a mount of its own."""
    (tmp_path / "files").symlink_to("/proc/self")
    await assert_not_writable(stranger, monkeypatch, tmp_path)


async def test_the_check_leaves_no_file(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data_dir = tmp_path / "new"
    monkeypatch.setattr("service.health.checks.settings", msgspec.structs.replace(settings, data_dir=data_dir))
    assert (await stranger.get("/health/ready")).json() == {"status": "ok", "version": VERSION, "checks": ALL_OK}
    assert not data_dir.exists()
    (data_dir / "files").mkdir(parents=True)
    assert (await stranger.get("/health/ready")).json()["checks"] == ALL_OK
    assert list((data_dir / "files").iterdir()) == []


async def test_a_disk_that_hangs_takes_no_thread_from_others(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a network that is away. The threads of asyncio also hash passwords."""
    is_back, usage, looked = threading.Event(), shutil.disk_usage, 0

    def hang(directory: Path) -> Any:
        nonlocal looked
        looked += 1
        is_back.wait(30)
        return usage(directory)

    monkeypatch.setattr("service.health.storage.shutil.disk_usage", hang)
    monkeypatch.setattr("service.health.checks._PATIENCE", 0.05)
    try:
        for _ in range(40):  # asyncio has at most 32 threads
            assert (await stranger.get("/health/ready")).json()["checks"]["storage"] == "not writable"
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 5) == "done"
        assert looked == 1
    finally:
        is_back.set()
    monkeypatch.setattr("service.health.checks._PATIENCE", 2)
    async with asyncio.timeout(5):
        while (await stranger.get("/health/ready")).json()["checks"]["storage"] != "ok":
            await asyncio.sleep(0.02)


async def test_a_bucket_is_not_checked(stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = msgspec.structs.replace(settings, storage_url="s3://files", data_dir=Path("/proc/self"))
    monkeypatch.setattr("service.health.checks.settings", bucket)
    ready = (await stranger.get("/health/ready")).json()
    assert ready["status"] == "ok"
    assert ready["checks"] == {name: "ok" for name in ALL_OK if name != "storage"}


async def test_the_service_tells_its_version(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get("/health/live")).json() == {"status": "ok", "version": VERSION}
    assert f'service_info{{version="{VERSION}"}} 1.0' in (await stranger.get("/metrics")).text
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == VERSION
    releases = re.findall(r"^## (.+)$", (ROOT / "docs/changelog.md").read_text(), re.MULTILINE)
    assert next(release for release in releases if release != "Unreleased") == VERSION


# What only degrades


async def assert_degraded(stranger: httpx.AsyncClient, **checks: str) -> None:
    ready = await stranger.get("/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {"status": "degraded", "version": VERSION, "checks": ALL_OK | checks}


async def test_a_disk_that_is_nearly_full_degrades(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    gib = 1024**3
    for total, free, state in (
        (20, 0.9, "nearly full"),
        (20, 1.1, "ok"),
        (10_000, 4.9, "nearly full"),
        (10_000, 5.1, "ok"),
    ):
        disk = SimpleNamespace(total=total * gib, free=free * gib)
        monkeypatch.setattr("service.health.storage.shutil.disk_usage", lambda _, disk=disk: disk)
        assert (await stranger.get("/health/ready")).json()["checks"]["storage"] == state, (total, free)
    monkeypatch.setattr("service.health.storage.shutil.disk_usage", lambda _: SimpleNamespace(total=gib, free=0))
    await assert_degraded(stranger, storage="nearly full")


async def test_a_restored_database_needs_a_resync(stranger: httpx.AsyncClient) -> None:
    await DB.run_ddl("UPDATE feed_cluster SET system_identifier = 1")
    try:
        await assert_degraded(stranger, feed="needs resync")
    finally:
        await resync()
    assert (await stranger.get("/health/ready")).json()["checks"] == ALL_OK


@asynccontextmanager
async def with_setting(name: str, value: str) -> AsyncIterator[None]:
    """A setting of the whole server, which its connections soon have."""
    operator = await asyncpg.connect(OPERATOR)
    try:
        await operator.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        await operator.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(0.3)
        yield
    finally:
        await operator.execute(f"ALTER SYSTEM RESET {name}")
        await operator.execute("SELECT pg_reload_conf()")
        await operator.close()
        await asyncio.sleep(0.3)


async def test_a_server_that_only_reads_degrades(stranger: httpx.AsyncClient) -> None:
    async with with_setting("default_transaction_read_only", "on"):
        await assert_degraded(stranger, writes="read only")
    assert (await stranger.get("/health/ready")).json()["checks"] == ALL_OK


async def test_commits_that_wait_for_a_missing_standby_degrade(stranger: httpx.AsyncClient) -> None:
    async with with_setting("synchronous_standby_names", "missing"):
        assert (await stranger.get("/health/ready")).json()["checks"] == ALL_OK, "the tests' server does not wait"
        await execute(OPERATOR, "ALTER ROLE service SET synchronous_commit = on")
        try:
            await end_connections(DB.config["dsn"])
            await assert_degraded(stranger, writes="no standby")
        finally:
            await execute(OPERATOR, "ALTER ROLE service RESET synchronous_commit")
            await end_connections(DB.config["dsn"])
    assert (await stranger.get("/health/ready")).json()["checks"] == ALL_OK


async def test_mail_that_waits_for_long_degrades(stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mail" not in (await stranger.get("/health/ready")).json()["checks"], "no server is set"
    sends = msgspec.structs.replace(settings, smtp_host="mail.example.org")
    monkeypatch.setattr("service.health.queries.settings", sends)
    for minutes, state in ((50, "ok"), (70, "failing")):
        await queue(minutes)
        assert (await stranger.get("/health/ready")).json()["checks"]["mail"] == state
    await assert_degraded(stranger, mail="failing")


async def queue(minutes: int) -> None:
    """A message that has waited for so long, and will for a day."""
    now = datetime.now(UTC)
    await Message(
        id=uuid7(),
        kind="verification",
        address=f"{minutes}@example.org",
        attempts=3,
        due_at=now + timedelta(days=1),
        created_at=now - timedelta(minutes=minutes),
    ).save()


# Metrics


async def read_metrics(stranger: httpx.AsyncClient) -> dict[str, float]:
    """Those without labels, and those with labels by their full text."""
    lines = (await stranger.get("/metrics")).text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


async def test_metrics_tell_what_waits(stranger: httpx.AsyncClient) -> None:
    found = await read_metrics(stranger)
    assert found["outbox_messages"] == found["outbox_oldest_seconds"] == 0
    assert found["database_old_transactions"] == 0
    assert found["feed_lag_seconds"] < 1
    assert found["pictures_queued"] == found["database_pool_waiting"] == found["change_streams_open"] == 0
    assert found["requests_in_flight"] == 0, "only those below /v1 count"
    assert found['database_connections{state="open"}'] >= found['database_connections{state="idle"}'] >= 1
    assert "valkey_up" not in found
    await queue(20)
    found = await read_metrics(stranger)
    assert found["outbox_messages"] == 1
    assert 20 * 60 <= found["outbox_oldest_seconds"] < 20 * 60 + 10


async def test_without_a_mail_server_no_message_waits(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the alert does not fire for what nobody sends."""
    await queue(120)
    assert (await read_metrics(stranger))["outbox_oldest_seconds"] >= 7200, "development logs e-mails"
    production = msgspec.structs.replace(settings, environment="production")
    for smtp_host, messages in (("", 0), ("mail.example.org", 1)):
        sends = msgspec.structs.replace(production, smtp_host=smtp_host)
        monkeypatch.setattr("service.health.metrics.settings", sends)
        found = await read_metrics(stranger)
        assert (found["outbox_messages"], found["outbox_oldest_seconds"] > 3600) == (messages, messages > 0)


async def test_metrics_tell_of_the_transaction_that_delays_the_feed(stranger: httpx.AsyncClient) -> None:
    other = await asyncpg.connect(DB.config["dsn"])
    try:
        await other.execute("BEGIN; SELECT FROM characters")
        await asyncio.sleep(1.1)
        assert (await read_metrics(stranger))["feed_lag_seconds"] < 1, "it only reads"
        await other.execute("SELECT pg_current_xact_id()")
        assert 1 <= (await read_metrics(stranger))["feed_lag_seconds"] < 10
    finally:
        await other.close()


@pytest.mark.slow
async def test_metrics_count_old_transactions(stranger: httpx.AsyncClient) -> None:
    reader = await asyncpg.connect(DB.config["dsn"])
    try:
        await reader.execute("BEGIN; SELECT FROM characters")
        await asyncio.sleep(10.5)
        found = await read_metrics(stranger)
        assert (found["database_old_transactions"], found["feed_lag_seconds"]) == (1, 0), "it writes nothing"
    finally:
        await reader.close()


async def test_metrics_count_waits_for_a_connection(stranger: httpx.AsyncClient) -> None:
    name = 'database_pool_waits_total{for="pool"}'
    before = (await read_metrics(stranger)).get(name, 0)
    async with AsyncExitStack() as stack:
        with slow_work_allowed():
            for _ in range(settings.database_pool_size):
                await stack.enter_async_context(DB.connection())
                HOLD.set(None)
            waiting = [asyncio.create_task(stranger.get("/v1/characters")) for _ in range(2)]
            await asyncio.sleep(0.3)
            assert DB.waiting() >= 2  # a job of the background may wait, too
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]
    assert (await read_metrics(stranger))[name] >= before + 1


async def test_metrics_go_on_without_the_database(stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(**_: object) -> None:
        raise OSError

    monkeypatch.setattr("service.health.queries._TRANSACTIONS.one", fail)
    found = await read_metrics(stranger)
    assert math.isnan(found["feed_lag_seconds"])
    assert math.isnan(found["outbox_messages"])


async def test_requests_at_once_share_the_checks(stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = 0

    async def count() -> str:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.1)
        return "ok"

    monkeypatch.setattr("service.health.checks._check_storage", count)
    answers = await asyncio.gather(*(stranger.get("/health/ready") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert runs == 1
    assert (await stranger.get("/health/ready")).status_code == 200
    assert runs == 2


async def test_the_checks_do_not_depend_on_who_asks(app: Any) -> None:
    """As operators on the Home of the admin site do."""
    ON_BEHALF_OF.set("somebody")
    while SHARES.take("somebody"):
        pass
    try:
        assert (await check_together())["database"] == "ok"
    finally:
        for _ in range(SHARES.most):
            SHARES.give_back("somebody")
