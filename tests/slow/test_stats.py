"""``piccolo service stats``: what it prints, and what it does not wait for."""

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator

import asyncpg
import pytest

from service.database import embedded
from tests.support.pictures import draw_picture
from tests.support.servers import PASSWORD, Service, piccolo, service_of_its_own

pytestmark = pytest.mark.slow  # a process each


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with service_of_its_own() as service:
        yield service.start()


def test_stats_are_printed_as_tables_and_as_json(service: Service) -> None:
    with service.client() as grace:
        account = {"email": "grace@example.org", "username": "grace", "password": PASSWORD}
        assert grace.post("/v1/users", json=account).status_code == 201
        session = grace.post("/v1/sessions", json={"login": "grace", "password": PASSWORD})
        grace.headers["Authorization"] = f"Bearer {session.json()['token']}"
        character = f"/v1/characters/{grace.post('/v1/characters', json={'name': 'Counted'}).json()['id']}"
        stored = grace.put(f"{character}/portrait", content=draw_picture(), headers={"Content-Type": "image/png"})
        assert stored.status_code == 200, stored.text
    done = piccolo("service", "stats", "--json", DATA_DIR=str(service.data_dir))
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    new = {"hours_24": 1, "days_30": 1}  # the rows of the seeds are not new
    assert (found["new_characters"], found["new_users"], found["active_users"]) == (new, new, new)
    assert found["files"]["count"] == 1
    assert found["files"]["bytes"] > 0
    assert found["mail"]["waiting"] >= 0
    assert 1 <= found["database"]["connections"] < found["database"]["max_connections"]
    assert found["standbys"] == []
    tables = {each["name"]: each for each in found["tables"]}
    assert tables["characters"]["bytes"] > 0
    assert tables["characters"]["index_bytes"] > 0
    printed = piccolo("service", "stats", DATA_DIR=str(service.data_dir)).stdout
    assert re.search(r"^characters +\d+ +\d+\.\d KiB +\d+\.\d KiB$", printed, re.MULTILINE), printed
    assert re.search(r"^new characters +\d+ +\d+$", printed, re.MULTILINE), printed
    for line in ("files: 1, ", "mail: ", "connections: ", "longest transaction: ", "standbys: none"):
        assert f"\n{line}" in printed, printed


def test_stats_wait_for_no_lock(service: Service) -> None:
    async def print_while_a_table_is_locked() -> subprocess.CompletedProcess[str]:
        blocker = await asyncpg.connect(embedded.dsn(service.data_dir))
        try:
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE outbox")
                return await asyncio.to_thread(piccolo, "service", "stats", DATA_DIR=str(service.data_dir))
        finally:
            await blocker.close()

    done = asyncio.run(print_while_a_table_is_locked())
    assert done.returncode == 0, done.stderr
    assert "\nmail: unknown\n" in done.stdout
    assert "\nfiles: 1, " in done.stdout
    assert re.search(r"^longest transaction: [1-9]\d*\.\d s$", done.stdout, re.MULTILINE), done.stdout
