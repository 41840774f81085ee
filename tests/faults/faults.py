"""The faults: each begins and ends in the function that is named after it."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg

from tests.faults.stage import START, Stage

Fault = Callable[[Stage], Awaitable[None]]

LONG = 6.0  # seconds; above the time-outs of statements (5) and locks (2)


async def one_worker_killed(stage: Stage) -> None:
    os.kill(min(stage.workers_of(stage.instances[0])), signal.SIGKILL)


async def all_workers_killed(stage: Stage) -> None:
    """At once, and started again."""
    for instance in stage.instances:
        for worker in {*stage.workers_of(instance), instance.process.pid if instance.process else 0} - {0}:
            os.kill(worker, signal.SIGKILL)
    for instance in stage.instances:
        await asyncio.to_thread(instance.wait)
        instance.launch()
    for instance in stage.instances:
        await asyncio.to_thread(instance.wait_until_it_answers, START)


async def workers_restarted_in_turn(stage: Stage) -> None:
    for instance in stage.instances:
        await stage.restart(instance)


async def workers_hang(stage: Stage) -> None:
    """Those of one instance."""
    await _hang(stage.workers_of(stage.instances[0]))


async def postmaster_killed(stage: Stage) -> None:
    os.kill(stage.postmaster, signal.SIGKILL)


async def all_of_postgres_killed(stage: Stage) -> None:
    for number in stage.processes:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


async def backend_killed(stage: Stage) -> None:
    """PostgreSQL ends all connections then, and recovers."""
    with suppress(asyncpg.PostgresError, OSError):
        async with stage.administrator() as connection:
            os.kill(await connection.fetchval("SELECT pg_backend_pid()"), signal.SIGKILL)


async def postgres_stopped_and_started(stage: Stage) -> None:
    """A fast shutdown; its supervisor starts it again."""
    os.kill(stage.postmaster, signal.SIGINT)


async def postgres_hangs(stage: Stage) -> None:
    await _hang(stage.processes)


async def supervisor_killed(stage: Stage) -> None:
    """PostgreSQL ends with it."""
    os.kill(int(stage.place.supervisor.read_text()), signal.SIGKILL)


async def connections_cut(stage: Stage) -> None:
    """All of the service, ten times."""
    for _ in range(10):
        await stage.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE usename = 'service' AND pid <> pg_backend_pid()"
        )
        await asyncio.sleep(0.2)


async def characters_locked(stage: Stage) -> None:
    async with stage.administrator() as connection, connection.transaction():
        await connection.execute("LOCK TABLE characters IN ACCESS EXCLUSIVE MODE")
        await asyncio.sleep(LONG)


async def changes_hold_the_feed_up(stage: Stage) -> None:
    """A transaction that writes and stays open."""
    async with stage.administrator() as connection, connection.transaction():
        await connection.execute("CREATE TABLE held_up ()")
        await asyncio.sleep(LONG)
        await connection.execute("DROP TABLE held_up")


async def table_changed(stage: Stage) -> None:
    """Cached plans of open connections do not fit any more."""
    for _ in range(5):
        await stage.execute("ALTER TABLE characters ADD COLUMN trial int DEFAULT 1")
        await asyncio.sleep(0.2)
        await stage.execute("ALTER TABLE characters DROP COLUMN trial")
        await asyncio.sleep(0.2)


async def server_read_only(stage: Stage) -> None:
    await stage.execute("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    await asyncio.sleep(3)
    await stage.execute(
        "SET default_transaction_read_only = off",
        "ALTER SYSTEM RESET default_transaction_read_only",
        "SELECT pg_reload_conf()",
    )


async def no_more_connections(stage: Stage) -> None:
    """The role may have two only."""
    await stage.execute("ALTER ROLE service CONNECTION LIMIT 2")
    await connections_cut(stage)
    await stage.execute("ALTER ROLE service CONNECTION LIMIT -1")


async def valkey_killed(stage: Stage) -> None:
    stage.valkey.terminate()
    await asyncio.sleep(2)
    await asyncio.to_thread(stage.valkey.start)


async def valkey_hangs(stage: Stage) -> None:
    with stage.valkey.client() as client:
        number = client.info("server")["process_id"]
    await _hang([number])


async def disk_full(stage: Stage) -> None:
    """PostgreSQL writes neither its tables nor its log, and the service no files."""
    filler = stage.place.home.parent / "filler"
    try:
        with filler.open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(1024**2))
                file.flush()
        with suppress(asyncpg.PostgresError, OSError):
            await stage.execute("SELECT pg_switch_wal()", "SELECT pg_switch_wal()")
        await asyncio.sleep(LONG)
    finally:
        filler.unlink()
    await stage.start_postgres()


async def clock_of_the_service_jumps(stage: Stage) -> None:
    await _jump(stage, "service")


async def clock_of_postgres_jumps(stage: Stage) -> None:
    await _jump(stage, "postgres")


async def _jump(stage: Stage, of: str) -> None:
    for offset in ("+3600", "-3600", "+0"):
        stage.set_clock(of, offset)
        await asyncio.sleep(2)
        assert abs(time.time() + int(offset) - await stage.clock(of)) < 10, "the clock did not jump"


async def _hang(processes: list[int]) -> None:
    for number in processes:
        os.kill(number, signal.SIGSTOP)
    try:
        await asyncio.sleep(LONG)
    finally:
        for number in processes:
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGCONT)


SEPARATE: list[Fault] = [
    one_worker_killed,
    all_workers_killed,
    workers_restarted_in_turn,
    workers_hang,
    postmaster_killed,
    all_of_postgres_killed,
    backend_killed,
    postgres_stopped_and_started,
    postgres_hangs,
    connections_cut,
    characters_locked,
    changes_hold_the_feed_up,
    table_changed,
    server_read_only,
    no_more_connections,
    valkey_killed,
    valkey_hangs,
]
EMBEDDED: list[Fault] = [all_workers_killed, postmaster_killed, supervisor_killed, postgres_hangs]
ON_A_SMALL_DISK: list[Fault] = [disk_full]
WITH_FALSE_CLOCKS: list[Fault] = [clock_of_the_service_jumps, clock_of_postgres_jumps]
ALL = {*SEPARATE, *EMBEDDED, *ON_A_SMALL_DISK, *WITH_FALSE_CLOCKS}
