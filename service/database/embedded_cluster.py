"""The files of an embedded PostgreSQL, their permissions, and its state. Standard library only."""

import fcntl
import hashlib
import os
import pwd
import socket
import struct
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

# For root only: PostgreSQL refuses to run as root, and the user it runs as may have no access to the data directory.
STATE = Path("/var/lib/character-service")
SOCKET = ".s.PGSQL.5432"


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot run. The message says why."""


class Place:
    """The paths of the PostgreSQL of a data directory and, if this process is root's, the user it runs as."""

    def __init__(self, data_dir: Path) -> None:
        data_dir = data_dir.resolve()
        self.server = _server_user()
        self.is_elsewhere = not self.can_reach(data_dir)
        self.home = STATE / _short_hash(data_dir) if self.is_elsewhere else data_dir
        self.cluster = self.home / "postgres"
        self.log = self.home / "postgres.log"
        self.users = self.home / "postgres.users"
        self.supervisor = self.home / "postgres.supervisor"
        self.socket = self.home / "postgres.socket" / SOCKET
        # A socket's path may have 103 bytes on macOS, 107 on Linux. In a DSN a comma separates hosts.
        if len(os.fsencode(self.socket)) > 103 or "," in str(self.socket):
            self.socket = Path("/tmp", f"character-service-{_short_hash(self.home)}", SOCKET)
        self.dsn = f"postgresql://service@/service?host={quote(str(self.socket.parent))}&port=5432"

    def can_reach(self, path: Path) -> bool:
        """Whether PostgreSQL's user may enter each directory on the path and, if it ends in a program, execute it."""
        if self.server is None:
            return True
        for step in (path, *path.parents):
            with suppress(FileNotFoundError):
                found = step.stat()
                shift = 6 if found.st_uid == self.server.pw_uid else 3 if found.st_gid == self.server.pw_gid else 0
                if not found.st_mode >> shift & 1:
                    return False
        return True

    def make_home(self) -> None:
        if self.is_elsewhere:
            STATE.mkdir(exist_ok=True)
            STATE.chmod(0o755)
        self.home.parent.mkdir(parents=True, exist_ok=True)
        self.make_private(self.home)

    def make_private(self, directory: Path) -> None:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            if self.server:
                os.chown(directory, self.server.pw_uid, self.server.pw_gid)

    def has_cluster(self) -> bool:
        return os.path.exists(self.cluster / "PG_VERSION") and os.path.exists(self.users)

    def is_supervised(self) -> bool:
        try:
            with self.supervisor.open() as lock:
                return not try_lock(lock.fileno(), fcntl.LOCK_SH)
        except FileNotFoundError:
            return False

    def is_ready(self) -> bool:
        """Until the supervisor has written its pid, the server that answers is an old one that is about to stop."""
        return self.supervisor.read_text() != "" and (self.probe() or b"").endswith(b"Z\0\0\0\5I")

    def probe(self) -> bytes | None:
        """PostgreSQL's response to a startup and a termination message; None if no server listens."""
        startup = struct.pack("!i", 3 << 16) + b"user\0service\0database\0service\0\0"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(str(self.socket))
                client.sendall(struct.pack("!i", len(startup) + 4) + startup + b"X\0\0\0\4")
                return client.makefile("rb").read()
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            except OSError:
                return b""


def other_data_directories(data_dir: Path) -> list[Path]:
    """Directories with a PostgreSQL of the service: those beside `data_dir`, and those of its name further up."""
    data_dir = data_dir.resolve()
    beside: list[Path] = []
    with suppress(OSError):
        beside = sorted(path for path in data_dir.parent.iterdir() if path.is_dir())
    above = [parent / data_dir.name for parent in data_dir.parent.parents]
    return [path for path in (*beside, *above) if path != data_dir and Place(path).has_cluster()]


def try_lock(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _server_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        return pwd.getpwnam("postgres")
    return pwd.getpwnam("nobody")


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:10]
