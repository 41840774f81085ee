"""The programs of a cluster, which run as PostgreSQL's own user if these tests are root's."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from service.database.embedded_cluster import Place
from tests.support.servers import processes_of, wait_until

VENV = Path(__file__).with_name(".venv")
PATRONI = VENV / "bin/patroni"


def postgres_programs() -> Path | None:
    """Those of the newest PostgreSQL of the system."""
    installed = Path("/usr/lib/postgresql").glob("[0-9]*/bin/pg_rewind")
    return max((path.parent for path in installed), key=lambda path: float(path.parent.name), default=None)


def what_is_missing() -> str:
    missing = [name for name in ("etcd", "haproxy") if _find(name) is None]
    missing += [] if PATRONI.exists() else ["Patroni (make test-cluster installs it)"]
    missing += [] if postgres_programs() else ["PostgreSQL of the system, such as postgresql-15"]
    missing += ["setpriv"] if os.geteuid() == 0 and _find("setpriv") is None else []
    return ", ".join(missing)


def _find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


class Program:
    """A process with all that it starts: its working directory, which is theirs, tells them from others."""

    def __init__(self, directory: Path, command: Sequence[str | Path]) -> None:
        self.directory = directory
        self.log = directory / "log"
        directory.mkdir(mode=0o700)
        if user := Place(directory).server:
            os.chown(directory, user.pw_uid, user.pw_gid)
            # Python and Patroni may lie below a home that only root may read
            rights = [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")]
            self.prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *rights]
        else:
            self.prefix = []
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, name: str, text: str) -> None:
        path = self.directory / name
        path.write_text(text)
        if user := Place(self.directory).server:
            os.chown(path, user.pw_uid, user.pw_gid)

    def start(self) -> None:
        command = [*self.prefix, _find(str(self.command[0])) or self.command[0], *self.command[1:]]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    @property
    def processes(self) -> list[int]:
        return sorted(processes_of(self.directory))

    def send(self, number: signal.Signals) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def kill(self) -> None:
        """At once, all that it started, too."""
        self.send(signal.SIGKILL)
        if self.process:
            self.process.wait(10)
        wait_until(lambda: not self._kill_the_rest(), f"{self.directory} still has processes", patience=10)

    def _kill_the_rest(self) -> bool:
        self.send(signal.SIGKILL)
        return bool(self.processes)
