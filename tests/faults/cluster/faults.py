"""The faults of a cluster: each begins and ends in the function that is named after it."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import httpx

from tests.faults.cluster.patroni import LEASE, Cluster, Member
from tests.faults.cluster.programs import Program

Fault = Callable[[Cluster], Awaitable[None]]

LONG = 8.0  # seconds


async def primary_crashes(cluster: Cluster) -> None:
    """Patroni and PostgreSQL at once, as with their machine."""
    primary = cluster.member("leader")
    primary.program.kill()
    await _another_leader(cluster, primary)


async def primary_hangs(cluster: Cluster) -> None:
    """Patroni and PostgreSQL, until another one is the primary, and for some seconds more."""
    primary = cluster.member("leader")
    primary.program.send(signal.SIGSTOP)
    try:
        await _another_leader(cluster, primary)
        await asyncio.sleep(3)
    finally:
        primary.program.send(signal.SIGCONT)


async def postmaster_killed(cluster: Cluster) -> None:
    """Patroni starts it again, or lets another one be the primary."""
    os.kill(cluster.member("leader").postmaster, signal.SIGKILL)


async def switchover(cluster: Cluster) -> None:
    primary, candidate = cluster.member("leader"), cluster.member("sync_standby")
    body = {"leader": primary.name, "candidate": candidate.name}
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(f"{primary.api}/switchover", json=body)
    assert answer.status_code == 200, answer.text
    await _another_leader(cluster, primary)


async def synchronous_standby_crashes(cluster: Cluster) -> None:
    cluster.member("sync_standby").program.kill()


async def synchronous_standby_hangs(cluster: Cluster) -> None:
    await _hang(cluster.member("sync_standby").program)


async def etcd_crashes(cluster: Cluster) -> None:
    """For so long that no member may lead."""
    cluster.etcd.kill()
    await asyncio.sleep(LEASE)
    cluster.etcd.start()


async def haproxy_crashes(cluster: Cluster) -> None:
    cluster.haproxy.kill()
    await asyncio.sleep(LONG)
    cluster.haproxy.start()


async def _another_leader(cluster: Cluster, before: Member) -> None:
    await asyncio.to_thread(cluster.wait_for_another_leader, before)


async def _hang(program: Program) -> None:
    program.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(LONG)
    finally:
        program.send(signal.SIGCONT)


FAULTS: list[Fault] = [
    primary_crashes,
    primary_hangs,
    postmaster_killed,
    switchover,
    synchronous_standby_crashes,
    synchronous_standby_hangs,
    etcd_crashes,
    haproxy_crashes,
]
EACH_FAILS_OVER: set[Fault] = {primary_crashes, primary_hangs, switchover}
