"""The feed of changes after a failover to a standby that lacks acknowledged changes."""

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.faults.cluster.patroni import Cluster, Member, cluster_of_its_own
from tests.faults.cluster.programs import what_is_missing
from tests.support.feed import Reader
from tests.support.servers import Service, member_of, processes_of

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(what_is_missing()), reason=f"not installed: {what_is_missing()}"),
]

CHANGES = "/v1/changes"
PATIENCE = 30.0  # seconds


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of_its_own(synchronous=False) as cluster:
        yield cluster


async def test_cursors_of_the_lost_timeline_are_refused_and_nothing_is_skipped_after_it(
    cluster: Cluster, services: list[Service]
) -> None:
    async with member_of(services[0].url, "alice") as alice:
        clients = [httpx.AsyncClient(base_url=each.url, headers=alice.headers, timeout=20) for each in services]
        await create(alice, "Kept")
        cursors = [(await alice.get(CHANGES)).json()["next_cursor"]]
        primary = cluster.member("leader")
        await _until_all_standbys_have_it(cluster, primary)
        _stop_sending(primary)
        for number in range(20):
            await create(alice, f"Lost {number}")
        page = (await alice.get(CHANGES, params={"limit": 100})).json()
        assert len(page["items"]) == 21
        primary.program.kill()
        await asyncio.to_thread(cluster.wait_for_another_leader, primary)
        readers = [Reader(client) for client in clients]  # type: ignore[arg-type]
        for client, reader in zip(clients, readers, strict=True):
            await _until_it_writes(client)
            for cursor in [*cursors, page["next_cursor"]]:
                assert (await client.get(CHANGES, params={"after": cursor})).status_code == 400
            await reader.read()
            assert not [item["name"] for item in reader.copy.values() if item["name"].startswith("Lost")]
        for number in range(40):  # as many transactions as were lost, and more
            await create(clients[number % 2], f"New {number}")
            await readers[number % 2].read_page()
        await asyncio.to_thread(cluster.wait_until_whole)  # the old primary is a standby
        await create(alice, "Last")
        listed = (await alice.get("/v1/characters", params={"owner": "me", "limit": 100})).json()["items"]
        for reader in readers:
            await reader.read()
            assert sorted(item["name"] for item in reader.copy.values()) == sorted(item["name"] for item in listed)
        expected = {"Kept", "Last", *(f"New {number}" for number in range(40))}
        assert {item["name"] for item in listed} - {"Trial"} == expected
        for client in clients:
            await client.aclose()


async def create(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.post("/v1/characters", json={"name": name})
    assert answer.status_code == 201, answer.text


async def _until_all_standbys_have_it(cluster: Cluster, primary: Member) -> None:
    async def replayed(standby: Member) -> Any:
        return await standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{end}'::pg_lsn")

    end = await primary.execute("SELECT pg_current_wal_lsn()::text")
    async with asyncio.timeout(PATIENCE):
        for standby in cluster.members:
            while standby is not primary and not await replayed(standby):
                await asyncio.sleep(0.05)


def _stop_sending(primary: Member) -> None:
    """The standbys get nothing more of the primary's log."""
    senders = [number for number, command in processes_of(primary.program.directory).items() if "walsender" in command]
    assert len(senders) == 2
    for number in senders:
        os.kill(number, signal.SIGSTOP)


async def _until_it_writes(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(PATIENCE):
        while (answer := await client.post("/v1/characters", json={"name": "Trial"})).status_code != 201:
            assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.1)
