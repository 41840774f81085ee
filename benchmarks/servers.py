"""Starts the measured servers: this service as documented for production, and the peers."""

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import msgspec

from benchmarks.cores import SERVER, Core, pinned_to

ROOT = Path(__file__).parents[1]
PEERS_PYTHON = ROOT / "benchmarks/.venv/bin/python"
NODE_PEERS = ROOT / "benchmarks/peers/node"
OURS = "this service"
ON_PYTHON = {
    "FastAPI + SQLAlchemy": "fastapi_sqlalchemy",
    "Litestar + Piccolo, plainly": "litestar_piccolo",
    "bare ASGI + asyncpg": "bare_asgi",
}
ON_NODE = {
    "Express + Prisma": "express_prisma.js",
    "Fastify + postgres.js": "fastify_postgres.js",
}
START_LIMIT = 30.0  # seconds


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Server(NamedTuple):
    name: str
    port: int
    process: subprocess.Popen[bytes]

    def ask(self, method: str, path: str, *, token: str = "", body: Any = None, **headers: str) -> Answer:
        """Sends one request, outside of any measurement."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
            answer = connection.getresponse()
            received = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, received, answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        if answer.status != 200:
            raise RuntimeError(f"{self.name} answers {answer.status} to GET {path}: {answer.body[:500]!r}")
        return answer.json


def _web() -> str:
    found = re.search(r"^web: (.*)$", (ROOT / "Procfile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


WEB = _web()  # the command of the Procfile


@contextmanager
def service(dsn: str, directory: Path, *, core: Core = SERVER, workers: int = 1, web: str = WEB) -> Iterator[Server]:
    """Runs the command in production mode. The log goes to a file."""
    environment = production(dsn, directory) | {"WEB_CONCURRENCY": str(workers)}
    command = ["sh", "-c", f"exec {web} --host 127.0.0.1"]  # the last --host counts
    with _running(OURS, command, core, environment, directory) as server:
        yield server


def production(dsn: str, directory: Path) -> dict[str, str]:
    """The environment of production, except that no rate limit and no quota is reached."""
    return with_programs(
        DATABASE_URL=dsn,
        ENVIRONMENT="production",
        ALLOWED_HOSTS="127.0.0.1",
        SECRET_KEY="only ever used by benchmarks on one machine",
        RATE_LIMIT_SCALE="1000000",
        QUOTA_CHARACTERS="1000000000",
        DATA_DIR=str(directory / "data"),
    )


def peers() -> dict[str, list[str]]:
    """The command of each peer that can run here, by its name."""
    python = str(PEERS_PYTHON if PEERS_PYTHON.exists() else sys.executable)
    uvicorn = [python, "-m", "uvicorn", "--no-access-log", "--log-level=warning", "--port", "0"]
    found = {name: [*uvicorn, f"benchmarks.peers.{module}:app"] for name, module in ON_PYTHON.items()}
    if not why_without_node():
        found |= {name: ["node", str(NODE_PEERS / script)] for name, script in ON_NODE.items()}
    return found


def why_without_node() -> str:
    """The reason why the peers on Node.js cannot run; empty if they can."""
    if shutil.which("node") is None:
        return "Node.js is not on the PATH"
    if not (NODE_PEERS / "node_modules/.installed").exists():
        return "`make peers` has not installed them; it needs npm and Node.js 20.19 or newer"
    return ""


@contextmanager
def peer(name: str, dsn: str, directory: Path, *, core: Core = SERVER) -> Iterator[Server]:
    environment = with_programs(DATABASE_URL=dsn, NODE_ENV="production", **_socket(dsn))
    with _running(name, peers()[name], core, environment, directory) as server:
        yield server


def _socket(dsn: str) -> dict[str, str]:
    """The address in libpq's variables: JavaScript cannot parse a URL without a host."""
    url = urlsplit(dsn)
    place = dict(parse_qsl(url.query))
    return {
        "PGHOST": place["host"],
        "PGPORT": place["port"],
        "PGUSER": url.username or "",
        "PGDATABASE": url.path.lstrip("/"),
    }


@contextmanager
def _running(
    name: str, command: Sequence[str], core: Core, environment: dict[str, str], directory: Path
) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (directory / "logs").mkdir(parents=True, exist_ok=True)
    log = directory / "logs" / f"{re.sub('[^a-z]+', '-', name.lower())}.log"
    command = [str(port) if part == "0" else part for part in command]
    with log.open("wb") as out:
        process = subprocess.Popen(
            pinned_to(core, command),
            cwd=ROOT,
            env=environment | {"PORT": str(port)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        server = Server(name, port, process)
        _wait(server, log)
        yield server
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _wait(server: Server, log: Path) -> None:
    until = time.monotonic() + START_LIMIT
    while time.monotonic() < until and server.process.poll() is None:
        with suppress(OSError):
            server.ask("GET", "/v1/characters?limit=1")
            return
        time.sleep(0.005)
    raise RuntimeError(f"{server.name} did not start: {log.read_text()[-2000:]}")


def with_programs(**given: str) -> dict[str, str]:
    """The environment of this process, with the programs of this interpreter on the PATH."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"} | given


def resident(process: int) -> float:
    """The resident memory of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0
