"""The service as a process of its own, and what the tests that start one need. Every wait is bounded."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec

from service.database import embedded
from service.database.embedded_cluster import Place
from service.settings import Settings

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0  # seconds; a start that creates a database takes four on two busy cores
VARIABLES = {field.name.upper() for field in msgspec.structs.fields(Settings)}
PIPELINE = ("-m", "service")
PASSWORD = "a long enough password"


class Service:
    """``python -m service``, or another command of the service, on a free port, with a log of its own.

    It runs outside the repository, so that a developer's ``.env`` is not read.
    """

    def __init__(self, directory: Path, command: Sequence[str] = PIPELINE, **environment: str) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.command: Sequence[str] = command
        self.port = free_port()
        self.environment = environment_of(
            **{"DATA_DIR": str(self.data_dir), "PORT": str(self.port), "PASSWORD_ITERATIONS": "1"} | environment
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stdout(self) -> str:
        return (self.directory / "stdout").read_text()

    @property
    def output(self) -> str:
        return self.stdout + (self.directory / "stderr").read_text()

    def access_lines(self, request_id: str, count: int) -> list[dict[str, Any]]:
        """The ``count`` access lines of production for this request id; each is written after its response."""

        def lines() -> list[dict[str, Any]]:
            complete = [json.loads(line) for line in self.stdout.splitlines(keepends=True) if line.endswith("\n")]
            return [line for line in complete if line.get("request_id") == request_id and "milliseconds" in line]

        wait_until(lambda: len(lines()) >= count, "the access lines did not come", patience=5)
        return lines()

    def client(self, *, address: str = "127.0.0.1", **headers: str) -> httpx.Client:
        """A client that connects from ``address``."""
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=self.url, headers=headers, timeout=20, transport=transport)

    def start(self) -> "Service":
        """Returns once it answers."""
        self.launch()
        self.wait_until_it_answers()
        return self

    def wait_until_it_answers(self, patience: float = PATIENCE) -> None:
        wait_until(self._answers, f"{self.command} did not answer", unless=self._has_ended, patience=patience)

    def launch(self) -> None:
        assert not self.is_running
        with (self.directory / "stdout").open("a") as out, (self.directory / "stderr").open("a") as err:
            self.process = subprocess.Popen(
                [sys.executable, *self.command], cwd=self.directory, env=self.environment, stdout=out, stderr=err
            )

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit status."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        return self.wait()

    def _answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health/live").status_code == 200
        return False

    def _has_ended(self) -> str | None:
        assert self.process is not None
        return None if self.process.poll() is None else f"It ended with {self.process.returncode}: {self.output}"


@contextmanager
def service_of_its_own(command: Sequence[str] = PIPELINE, **environment: str) -> Iterator[Service]:
    """A service that is not started yet; whatever it started is gone afterwards."""
    with directory_of_its_own() as directory:
        service = Service(directory, command, **environment)
        try:
            yield service
        finally:
            if service.process is not None and service.is_running:
                service.process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    service.wait()
                service.process.kill()
                service.process.wait()
            end_processes_of(service.data_dir)


@contextmanager
def worker_of_its_own(*, workers: int = 1, **environment: str) -> Iterator[Service]:
    """Workers, as the Procfile has them, that are not started yet: they neither migrate nor seed their database."""
    with service_of_its_own(**environment) as service:
        service.command = web_command(service.port, workers=workers)
        yield service


def web_command(port: int, *, workers: int = 1) -> tuple[str, ...]:
    """The command of the Procfile, for this machine alone."""
    web = re.search(r"^web: (.+)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    assert web is not None
    given = {
        "${WEB_CONCURRENCY:-1}": str(workers),
        "${PORT:-8000}": str(port),
        "0.0.0.0": "127.0.0.1",
        "deploy/log.json": str(ROOT / "deploy/log.json"),
    }
    return ("-m", *(given.get(word, word) for word in shlex.split(web[1])))


@contextmanager
def directory_of_its_own() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="character-service-"))
    directory.chmod(0o755)  # as root, PostgreSQL runs as another user
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def standby_of_its_own(source: Path | None = None) -> Iterator[Path]:
    """The data directory of a running PostgreSQL that stays in recovery, as a standby does: a copy of that in
    ``source``, which must not run, or of a new one."""
    with directory_of_its_own() as directory:
        if source is None:
            source = directory / "primary"
            embedded.start(source).stop()
        data_dir = directory / "standby"
        copy_cluster(source, data_dir)
        (Place(data_dir).cluster / "standby.signal").touch()
        try:
            standby = embedded.start(data_dir)
            yield data_dir
            standby.stop()
        finally:
            end_processes_of(data_dir)


def copy_cluster(before: Path, after: Path) -> None:
    """Copies a PostgreSQL that does not run, with its owners."""
    shutil.copytree(before, after, symlinks=True)
    old, new = Place(before).cluster, Place(after).cluster
    if not new.exists():
        shutil.copytree(old, new)
    for path in (new.parent, new, *new.rglob("*")):
        same = old.parent / path.relative_to(new.parent)
        shutil.chown(path, same.stat().st_uid, same.stat().st_gid)


def environment_of(**given: str) -> dict[str, str]:
    """This process's environment, with no settings of the service but those ``given``."""
    return (
        {name: value for name, value in os.environ.items() if name not in VARIABLES} | {"PYTHONPATH": str(ROOT)} | given
    )


def piccolo(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The ``piccolo`` command as it is typed, in the repository's root. ``given`` is its standard input."""
    program = Path(sys.executable).with_name("piccolo")
    return subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        env=environment_of(**environment),
        input=given,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@asynccontextmanager
async def member_of(url: str, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """A new user of the service at ``url``, signed in."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        account = {"email": f"{name}@example.org", "username": name, "password": PASSWORD}
        assert (await client.post("/v1/users", json=account)).status_code == 201
        session = await client.post("/v1/sessions", json={"login": name, "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {session.json()['token']}"
        yield client


async def execute(dsn: str, statement: str) -> None:
    database = await asyncpg.connect(dsn)
    try:
        await database.execute(statement)
    finally:
        await database.close()


async def end_connections(dsn: str) -> None:
    """Those of the service's pool: its next ones begin with the present settings of the database."""
    await execute(
        dsn,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'character-service'",
    )
    await asyncio.sleep(0.1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    is_so: Callable[[], bool],
    otherwise: str,
    *,
    unless: Callable[[], str | None] = lambda: None,
    patience: float = PATIENCE,
) -> None:
    until = time.monotonic() + patience
    while not is_so():
        assert (reason := unless()) is None, reason
        assert time.monotonic() < until, f"{otherwise} within {patience} s"
        time.sleep(0.02)


def processes_of(data_dir: Path) -> dict[int, str]:
    """The command lines of what runs in or for ``data_dir``, by process id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = f"{command} {(process / 'cwd').readlink()} "
            if int(process.name) != os.getpid() and (f"{data_dir} " in place or f"{data_dir}/" in place):
                found[int(process.name)] = command
    return found


def end_processes_of(data_dir: Path) -> None:
    """Gives PostgreSQL, which outlives a killed service for a moment, the time to leave; then ends what is left."""
    until = time.monotonic() + PATIENCE / 2
    while left := processes_of(data_dir):
        if time.monotonic() > until:
            for number in left:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        time.sleep(0.05)
