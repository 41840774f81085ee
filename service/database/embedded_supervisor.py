"""A background process, one for each data directory, that keeps PostgreSQL running while processes use it.

It holds an exclusive lock on `postgres.supervisor` while it runs, and one on `postgres.users` while it ends: a process
that starts meanwhile waits until it has ended. It imports the standard library only, which keeps its start short.
"""

import ctypes
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from service.database.embedded_cluster import (
    SOCKET,
    EmbeddedPostgresError,
    Place,
    try_lock,
)

POLL_INTERVAL = 0.1  # seconds between two checks of PostgreSQL and of the locks
MIN_UPTIME = 10.0  # seconds; a PostgreSQL that ends sooner has failed
MAX_FAILURES = 6  # in a row, within 3 s
STOP_LIMIT = 15.0  # seconds for a fast shutdown, before an immediate one
ALREADY_RUNNING = 3  # exit status


class Supervisor:
    def __init__(self, place: Place, lock: int, programs: Path, ephemeral: bool) -> None:
        self.place = place
        self.lock = lock
        self.programs = programs
        self.ephemeral = ephemeral
        self.is_stopping = False
        self.users = os.open(place.users, os.O_RDWR)  # closed by the end of the process only
        signal.signal(signal.SIGTERM, self._stop_soon)

    def run(self) -> None:
        if self.ephemeral and self.place.cluster.exists():
            raise EmbeddedPostgresError(f"{self.place.cluster} exists already; an ephemeral database would be deleted.")
        self._make_socket_directory()
        try:
            if not self.place.cluster.exists():
                self._create_cluster()
            self._keep_running()
        finally:
            shutil.rmtree(self.place.socket.parent, ignore_errors=True)
        if self.ephemeral:
            self._delete()

    def _stop_soon(self, *_: object) -> None:
        self.is_stopping = True

    def _should_run(self) -> bool:
        return not (self.is_stopping or try_lock(self.users, fcntl.LOCK_EX))

    def _create_cluster(self) -> None:
        """Create it under another name and rename it, so that an interrupted creation leaves no incomplete cluster."""
        new = self.place.home / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        self.place.make_private(new)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", *self._locale()]
        self._run("initdb", "-D", str(new), *options, *(["--no-sync"] if self.ephemeral else []))
        statements = "CREATE ROLE service LOGIN;\nCREATE DATABASE service OWNER service;\n"
        self._run("postgres", "--single", "-D", str(new), "-c", "exit_on_error=on", "postgres", stdin=statements)
        new.rename(self.place.cluster)

    def _locale(self) -> list[str]:
        version = subprocess.run([self.programs / "postgres", "--version"], capture_output=True, text=True, check=True)
        major = re.search(r"\d+", version.stdout)
        if major and int(major[0]) >= 17:
            return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return ["--locale=C.UTF-8"]

    def _make_socket_directory(self) -> None:
        """PostgreSQL trusts every user with access to its socket, so a directory in /tmp of another user is refused."""
        directory = self.place.socket.parent
        self.place.make_private(directory)
        found = directory.lstat()
        owner = self.place.server.pw_uid if self.place.server else os.geteuid()
        if found.st_uid != owner or found.st_mode & 0o077:
            raise EmbeddedPostgresError(f"{directory} belongs to another user or is open to others: remove it.")

    def _keep_running(self) -> None:
        failures = 0
        while self._should_run():
            self._clear_remains()
            os.pwrite(self.lock, str(os.getpid()).encode(), 0)
            began = time.monotonic()
            postgres = self._start_postgres()
            while postgres.poll() is None and self._should_run():
                time.sleep(POLL_INTERVAL)
            if postgres.poll() is None:
                _stop(postgres)
                return
            failures = failures + 1 if time.monotonic() - began < MIN_UPTIME else 1
            if failures == MAX_FAILURES:
                raise EmbeddedPostgresError(f"PostgreSQL ended {failures} times in a row.")
            time.sleep(0.05 * 2**failures)

    def _clear_remains(self) -> None:
        """Prepare for a new start after a crash.

        A PostgreSQL that still listens has lost its supervisor and is stopped. PostgreSQL refuses to start while a
        process has the pid in postmaster.pid, which may by now be a zombie's or another program's. It ignores the pid
        of its parent, so the supervisor's own pid is written there. The rest of the file is kept: with it PostgreSQL
        finds processes that still use the old shared memory.
        """
        pid_file = self.place.cluster / "postmaster.pid"
        until = time.monotonic() + STOP_LIMIT
        while self.place.probe() is not None:
            if time.monotonic() > until:
                raise EmbeddedPostgresError(f"An earlier PostgreSQL still runs in {self.place.cluster}.")
            with suppress(OSError, ValueError):
                os.kill(int(pid_file.read_text().partition("\n")[0]), signal.SIGINT)
            time.sleep(POLL_INTERVAL)
        with suppress(FileNotFoundError):
            _, _, rest = pid_file.read_text().partition("\n")
            pid_file.write_text(f"{os.getpid()}\n{rest}")
        for remains in self.place.socket.parent.glob(f"{SOCKET}*"):
            remains.unlink()

    def _start_postgres(self) -> subprocess.Popen[str]:
        settings = ["listen_addresses=", "port=5432", "max_connections=100", "timezone=UTC", "log_timezone=UTC"]
        if self.ephemeral:
            settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        options = [f"--{setting}" for setting in settings]
        return self._start("postgres", "-D", str(self.place.cluster), "-k", str(self.place.socket.parent), *options)

    def _run(self, program: str, *arguments: str, stdin: str = "") -> None:
        process = self._start(program, *arguments)
        process.communicate(stdin)
        if process.returncode:
            raise EmbeddedPostgresError(f"{program} ended with {process.returncode}.")

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        server = self.place.server
        return subprocess.Popen(
            [self.programs / program, *arguments],
            cwd="/",
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.PIPE,
            text=True,
            user=server.pw_uid if server else None,
            group=server.pw_gid if server else None,
            extra_groups=[] if server else None,
            preexec_fn=_end_with_parent,
        )

    def _delete(self) -> None:
        """Delete the cluster, its log, then the lock files, and the directory if it is empty."""
        shutil.rmtree(self.place.cluster, ignore_errors=True)
        for file in (self.place.log, self.place.supervisor, self.place.users):
            file.unlink(missing_ok=True)
        with suppress(OSError):
            self.place.home.rmdir()


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG: shut down after a kill -9 of the supervisor


def _stop(postgres: subprocess.Popen[str]) -> None:
    """Shut down with a rollback of open transactions. After STOP_LIMIT, end without: the next start then recovers."""
    for number, seconds in ((signal.SIGINT, STOP_LIMIT), (signal.SIGQUIT, 4), (signal.SIGKILL, None)):
        postgres.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            postgres.wait(seconds)
            return


def main(data_dir: str, programs: str, *options: str) -> int:
    """Take the lock and continue in the background. The exit status says whether this process got the lock."""
    place = Place(Path(data_dir))
    lock = os.open(place.supervisor, os.O_RDWR | os.O_CREAT, 0o600)  # closed by the end of the process only
    if not try_lock(lock, fcntl.LOCK_EX):
        return ALREADY_RUNNING
    os.ftruncate(lock, 0)
    if os.fork():
        return 0
    os.umask(0o077)
    with place.log.open("w") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())
    try:
        Supervisor(place, lock, Path(programs), "--ephemeral" in options).run()
    except (EmbeddedPostgresError, OSError, subprocess.SubprocessError) as error:
        print(error)
        return 1
    return 0
