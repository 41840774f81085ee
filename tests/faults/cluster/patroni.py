"""A cluster on this machine: three PostgreSQLs led by Patroni, which agree through etcd, behind HAProxy."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.faults.cluster.programs import PATRONI, Program, postgres_programs
from tests.support.servers import directory_of_its_own, free_port, wait_until

NAMES = ("one", "two", "three")
LEASE = 20  # seconds that a leader may be silent: Patroni takes no fewer
START = 90.0  # seconds

HAPROXY = """
defaults
    mode tcp
    timeout connect 2s
    timeout check 2s
    timeout client 1h
    timeout server 1h
listen primary
    bind 127.0.0.1:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
"""


class Member:
    def __init__(self, name: str, directory: Path, etcd_port: int, *, synchronous: bool) -> None:
        self.name = name
        self.port, self.api_port = free_port(), free_port()
        self.program = Program(directory / name, [PATRONI, "patroni.yml"])
        user = {"username": "postgres", "password": "not used"}
        trust = [f"{kind} all 127.0.0.1/32 trust" for kind in ("host all", "host replication")]
        dynamic = {
            "ttl": LEASE,
            "loop_wait": 1,
            "retry_timeout": 3,
            "synchronous_mode": synchronous,
            "synchronous_mode_strict": synchronous,
            "postgresql": {"use_pg_rewind": True, "parameters": {"max_connections": 60, "wal_log_hints": True}},
        }
        configuration = {
            "scope": "characters",
            "name": name,
            "restapi": _listen(self.api_port),
            "etcd3": {"host": f"127.0.0.1:{etcd_port}"},
            "bootstrap": {"dcs": dynamic, "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}]},
            "postgresql": _listen(self.port)
            | {
                "data_dir": str(self.program.directory / "data"),
                "bin_dir": str(postgres_programs()),
                "authentication": {"superuser": user, "replication": user, "rewind": user},
                "parameters": {"unix_socket_directories": str(self.program.directory)},
                "pg_hba": ["local all all trust", *trust],
            },
        }
        self.program.write("patroni.yml", json.dumps(configuration))  # which is YAML, too

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def postmaster(self) -> int:
        return int((self.program.directory / "data/postmaster.pid").read_text().partition("\n")[0])

    async def execute(self, statement: str) -> Any:
        connection = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{self.port}/postgres", timeout=10)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()


class Cluster:
    def __init__(self, directory: Path, *, synchronous: bool) -> None:
        self.synchronous = synchronous
        port, peer_port, self.port = free_port(), free_port(), free_port()
        urls = {"client": f"http://127.0.0.1:{port}", "peer": f"http://127.0.0.1:{peer_port}"}
        options = [f"--listen-{kind}-urls={url}" for kind, url in urls.items()]
        options += [f"--advertise-client-urls={urls['client']}", f"--initial-advertise-peer-urls={urls['peer']}"]
        options += [f"--initial-cluster=default={urls['peer']}", "--data-dir=data"]
        self.etcd = Program(directory / "etcd", ["etcd", *options])
        self.members = [Member(name, directory, port, synchronous=synchronous) for name in NAMES]
        self.haproxy = Program(directory / "haproxy", ["haproxy", "-f", "haproxy.cfg", "-db"])
        servers = [f"    server {each.name} 127.0.0.1:{each.port} check port {each.api_port}" for each in self.members]
        self.haproxy.write("haproxy.cfg", HAPROXY.format(port=self.port) + "\n".join(servers) + "\n")

    @property
    def programs(self) -> list[Program]:
        return [self.haproxy, *(member.program for member in self.members), self.etcd]

    @property
    def through_haproxy(self) -> str:
        return f"postgresql://service@127.0.0.1:{self.port}/service"

    @property
    def through_all_hosts(self) -> str:
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"postgresql://service@{hosts}/service"

    def start(self) -> None:
        for program in (self.etcd, self.members[0].program):
            program.start()
        wait_until(lambda: bool(self.roles().get("one") == "leader"), "there is no leader", patience=START)
        for program in (*(member.program for member in self.members[1:]), self.haproxy):
            program.start()
        self.wait_until_whole()

    def roles(self) -> dict[str, str]:
        """Of the members that Patroni knows to run: `leader`, `sync_standby` or `replica`."""
        for member in self.members:
            with suppress(httpx.TransportError):
                members = httpx.get(f"{member.api}/cluster", timeout=2).json()["members"]
                return {each["name"]: each["role"] for each in members if each["state"] in ("running", "streaming")}
        return {}

    def member(self, role: str) -> Member:
        name = next(name for name, of in self.roles().items() if of == role)
        return next(member for member in self.members if member.name == name)

    def wait_until_whole(self) -> None:
        """Starts the members that do not run."""
        for program in self.programs:
            if not program.processes:
                program.start()
        expected = sorted(["leader", "sync_standby", "replica"] if self.synchronous else ["leader", *["replica"] * 2])
        wait_until(
            lambda: sorted(self.roles().values()) == expected and self._serves(), f"{self.roles()}", patience=START
        )

    def wait_for_another_leader(self, before: Member) -> None:
        others = {member.name for member in self.members} - {before.name}

        def is_there() -> bool:
            return any(self._is_primary(member) for member in self.members if member.name in others)

        wait_until(is_there, "no other member became the leader", patience=3 * LEASE)

    def _is_primary(self, member: Member) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{member.api}/primary", timeout=1).status_code == 200
        return False

    def _serves(self) -> bool:
        with suppress(OSError):
            return any(self._is_primary(member) for member in self.members)
        return False

    def stop(self) -> None:
        for program in self.programs:
            program.send(signal.SIGCONT)
            program.kill()


@contextmanager
def cluster_of_its_own(*, synchronous: bool) -> Iterator[Cluster]:
    with directory_of_its_own() as directory:
        cluster = Cluster(directory, synchronous=synchronous)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def _listen(port: int) -> dict[str, str]:
    return {"listen": f"127.0.0.1:{port}", "connect_address": f"127.0.0.1:{port}"}
