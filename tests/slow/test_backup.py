"""``piccolo service backup`` and ``restore``: what the API shows is the same afterwards, or nothing has changed."""

import asyncio
import hashlib
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

from service.commands.manifest import Manifest
from service.database import embedded
from service.database.dumps import libpq_address
from tests.support.cards import ICON, ICON_ASSET, V3, in_charx
from tests.support.pictures import draw_picture
from tests.support.servers import PASSWORD, Service, execute, piccolo, service_of_its_own

pytestmark = pytest.mark.slow

CHANGES = "/v1/changes"


class Backup(NamedTuple):
    """A backup of a service, and what its API told before."""

    directory: Path
    answers: dict[str, bytes]  # to Alice, by path
    cursor: str
    printed: str


def sign_in(client: httpx.Client, name: str) -> int:
    session = client.post("/v1/sessions", json={"login": name, "password": PASSWORD})
    client.headers["Authorization"] = f"Bearer {session.json().get('token')}"
    return session.status_code


@contextmanager
def member_of(service: Service, name: str) -> Iterator[httpx.Client]:
    with service.client() as client:
        account = {"email": f"{name}@example.org", "username": name, "password": PASSWORD}
        assert client.post("/v1/users", json=account).status_code == 201
        assert sign_in(client, name) == 201
        yield client


def created(response: httpx.Response) -> Any:
    assert response.status_code in (200, 201), response.text
    return response.json()


def fill(alice: httpx.Client) -> list[str]:
    """Some of everything that a member has. Returns the paths at which it is read."""
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
    template = created(alice.post("/v1/templates", json={"name": "Captain", "attribute_schema": schema}))
    mira = created(
        alice.post(
            "/v1/characters", json={"name": "Mira", "template": {"id": template["id"]}, "attributes": {"age": 7}}
        )
    )
    otto = created(alice.post("/v1/characters", json={"name": "Otto", "visibility": "public"}))
    gone = created(alice.post("/v1/characters", json={"name": "Gone"}))
    for color in ("#c81e1e", "#1ec81e"):  # the first one is in a revision then
        picture = {"file": ("portrait.png", draw_picture("PNG", 300, 200, color), "image/png")}
        assert alice.put(f"/v1/characters/{mira['id']}/portrait", files=picture).status_code in (200, 201, 204)
    card = {"data": V3["data"] | {"assets": [ICON_ASSET]}}
    charx = in_charx(V3 | card, **{ICON: draw_picture("PNG")})
    imported = created(alice.post("/v1/imports", files=[("file", ("mira.charx", charx))]))
    (card_id,) = (outcome["character"]["id"] for outcome in imported["items"])
    relationship = {"target": otto["id"], "type": "mentor_of"}
    created(alice.post(f"/v1/characters/{mira['id']}/relationships", json=relationship))
    assert alice.delete(f"/v1/characters/{gone['id']}").status_code == 204
    of_mira, of_card = f"/v1/characters/{mira['id']}", f"/v1/characters/{card_id}"
    return [
        "/v1/users/me",
        "/v1/users/me/usage",
        "/v1/characters?owner=me",
        "/v1/templates?owner=me",
        f"/v1/templates/{template['id']}/versions",
        "/v1/trash",
        of_mira,
        f"{of_mira}/portrait",
        f"{of_mira}/relationships",
        f"{of_mira}/revisions",
        f"/v1/characters/{otto['id']}",
        of_card,
        f"{of_card}/portrait",
        f"{of_card}/card?format=charx",
    ]


def read(client: httpx.Client, paths: list[str]) -> dict[str, bytes]:
    found = {path: client.get(path, follow_redirects=True) for path in paths}
    assert [path for path, response in found.items() if response.status_code != 200] == []
    return {path: _content(response) for path, response in found.items()}


def _content(response: httpx.Response) -> bytes:
    if not response.content.startswith(b"PK"):
        return response.content
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:  # which has the time of each file
        return b"\n".join(name.encode() + archive.read(name) for name in archive.namelist())


@contextmanager
def writing(client: httpx.Client) -> Iterator[list[str]]:
    """Creates characters with portraits, one after the other, during the block."""
    names: list[str] = []
    is_over = threading.Event()

    def write() -> None:
        for number in itertools.count():
            if is_over.is_set():
                return
            character = created(client.post("/v1/characters", json={"name": f"Busy {number}"}))
            picture = {"file": ("portrait.png", draw_picture("PNG", color=f"#{number:06x}"), "image/png")}
            client.put(f"/v1/characters/{character['id']}/portrait", files=picture)
            names.append(character["name"])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield names
    finally:
        is_over.set()
        thread.join()


def run(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return piccolo("service", *arguments, DATA_DIR=str(service.data_dir))


def rows_of(service: Service, query: str) -> list[Any]:
    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(embedded.dsn(service.data_dir))
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    embedded.start(service.data_dir)
    return asyncio.run(fetch())


def assert_refused(done: subprocess.CompletedProcess[str], reason: str) -> None:
    assert done.returncode == 1, done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith(("Nothing", "No backup", "/"))]
    assert len(lines) == 1, done.stderr
    assert reason in lines[0]
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def source() -> Iterator[Service]:
    with service_of_its_own(RATE_LIMIT_SCALE="1000") as service:
        yield service.start()


@pytest.fixture(scope="module")
def made(source: Service, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    directory = tmp_path_factory.mktemp("backups") / "first"
    with member_of(source, "alice") as alice, member_of(source, "charlie") as charlie:
        paths = fill(alice)
        answers = read(alice, paths)
        cursor = alice.get(CHANGES).json()["next_cursor"]
        with writing(charlie) as names:
            done = run(source, "backup", str(directory))
        assert done.returncode == 0, done.stdout + done.stderr
        assert names, "nothing was written meanwhile"
        assert answers == read(alice, paths)
    return Backup(directory, answers, cursor, done.stdout)


@pytest.fixture
def copy(made: Backup, tmp_path: Path) -> Backup:
    """One that a test may damage."""
    shutil.copytree(made.directory, tmp_path / "copy")
    return made._replace(directory=tmp_path / "copy")


@pytest.fixture
def empty() -> Iterator[Service]:
    """A service that was never started."""
    with service_of_its_own(RATE_LIMIT_SCALE="1000") as service:
        yield service


def test_a_restored_service_answers_as_the_old_one(made: Backup, empty: Service) -> None:
    done = run(empty, "restore", str(made.directory))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("Restored. Start the service;")
    empty.start()
    with empty.client() as alice:
        assert sign_in(alice, "alice") == 201
        for path, answer in read(alice, list(made.answers)).items():
            assert answer == made.answers[path], path
        assert alice.get(CHANGES, params={"after": made.cursor}).status_code == 400
        assert alice.get(CHANGES).json()["items"]
        created(alice.post("/v1/characters", json={"name": "New"}))
    with empty.client() as charlie:
        assert sign_in(charlie, "charlie") == 201
        page = charlie.get("/v1/characters?owner=me&limit=100").json()["items"]
        assert page
        for character in page:
            if character["portrait"] is not None:
                assert charlie.get(character["portrait"]["url"]).status_code == 200, "the file of a referring row"
        assert charlie.get("/health/ready").json()["checks"]["feed"] == "ok"


def test_a_backup_has_a_manifest_and_is_private(made: Backup, source: Service) -> None:
    manifest = json.loads((made.directory / "manifest.json").read_bytes())
    assert manifest["rows"]["public.users"] >= 2
    assert manifest["last_migration"].startswith("2026-")
    assert manifest["storage"] == "directory"
    files = {str(path.relative_to(made.directory)) for path in made.directory.rglob("*") if path.is_file()}
    assert {file["name"] for file in manifest["files"]} == files - {"manifest.json", "manifest.sha256"}
    for file in manifest["files"]:
        content = (made.directory / file["name"]).read_bytes()
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert made.directory.stat().st_mode & 0o777 == 0o700
    assert os.listdir(made.directory.parent) == ["first"]
    assert "database: " in made.printed
    assert "files: " in made.printed


def test_an_existing_directory_is_not_overwritten(source: Service, tmp_path: Path) -> None:
    assert_refused(run(source, "backup", str(tmp_path)), "exists already")
    assert os.listdir(tmp_path) == []
    assert_refused(run(source, "backup", str(tmp_path / "missing" / "new")), "No such file or directory")
    assert os.listdir(tmp_path) == []


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def damage(directory: Path, kind: str) -> None:
    """``kind`` names what is done to the backup."""
    dump = next(path for path in sorted((directory / "dump").iterdir()) if path.name != "toc.dat")
    upload = next(path for path in sorted((directory / "files").rglob("*")) if path.is_file())
    match kind:
        case "a bit of the dump":
            flip(dump)
        case "a bit of an upload":
            flip(upload)
        case "a bit of the manifest":
            flip(directory / "manifest.json")
        case "an upload is missing":
            upload.unlink()
        case "the table of contents is missing":
            (directory / "dump" / "toc.dat").unlink()
        case "a file is added":
            (directory / "files" / "added").write_bytes(b"")
        case "the manifest is missing":
            (directory / "manifest.json").unlink()
        case "a newer migration":
            change_manifest(directory, {"migrations": [["service", "2099-01-01T00:00:00:000000"]]})
        case "another format":
            change_manifest(directory, {"format": 2})
        case "the dump cannot be read":  # by a backup that is as it was written
            (directory / "dump" / "toc.dat").write_bytes(b"PGDMP")
            describe_again(directory, "dump/toc.dat")
        case "the dump fails in the middle":
            dump = max((directory / "dump").glob("*.dat*"), key=lambda path: path.stat().st_size)
            dump.write_bytes(dump.read_bytes()[:-20])
            describe_again(directory, f"dump/{dump.name}")


def change_manifest(directory: Path, changes: dict[str, Any]) -> None:
    content = json.dumps(json.loads((directory / "manifest.json").read_bytes()) | changes).encode()
    (directory / "manifest.json").write_bytes(content)
    (directory / "manifest.sha256").write_text(f"{hashlib.sha256(content).hexdigest()}  manifest.json\n")


def describe_again(directory: Path, name: str) -> None:
    content = (directory / name).read_bytes()
    files = json.loads((directory / "manifest.json").read_bytes())["files"]
    new = {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change_manifest(directory, {"files": [new if file["name"] == name else file for file in files]})


@pytest.fixture(scope="module")
def untouched() -> Iterator[Service]:
    """A service without tables, which every refused restore leaves as it is."""
    with service_of_its_own() as service:
        yield service


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("a bit of the dump", "is not as it was written"),
        ("a bit of an upload", "is not as it was written"),
        ("a bit of the manifest", "manifest.json does not match manifest.sha256"),
        ("an upload is missing", "is missing"),
        ("the table of contents is missing", "dump/toc.dat is missing"),
        ("a file is added", "files/added does not belong to it"),
        ("the manifest is missing", "is not a complete backup"),
        ("a newer migration", "has migrations that this release, 1.0.0, does not have (2099-01-01T00:00:00:000000)"),
        ("another format", "cannot read format 2"),
        ("the dump cannot be read", "pg_restore: error: "),
        ("the dump fails in the middle", "pg_restore: error: "),
    ],
)
def test_a_damaged_backup_leaves_the_service_empty(copy: Backup, untouched: Service, kind: str, reason: str) -> None:
    damage(copy.directory, kind)
    assert_refused(run(untouched, "restore", str(copy.directory)), reason)
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migration'"
    assert rows_of(untouched, tables) == []  # the command `piccolo` itself creates that one, empty
    assert not (untouched.data_dir / "files").exists()


def test_a_service_that_is_not_empty_keeps_what_it_has(made: Backup, source: Service, empty: Service) -> None:
    users = rows_of(source, "SELECT username FROM users ORDER BY 1")
    assert_refused(run(source, "restore", str(made.directory)), f"{source.data_dir}/files has files")
    assert rows_of(source, "SELECT username FROM users ORDER BY 1") == users
    assert piccolo("migrations", "forwards", DATA_DIR=str(empty.data_dir)).returncode == 0
    assert_refused(run(empty, "restore", str(made.directory)), "the database has tables (audit_log, ")
    assert rows_of(empty, "SELECT username FROM users") == []


@pytest.mark.parametrize(
    ("afterwards", "told"),
    [
        ("SELECT", None),
        ("ALTER ROLE service NOLOGIN", "The database was restored, the rest was not: "),
        ("DELETE FROM revisions", "The database was restored, but not as it was: public.revisions differ in rows."),
    ],
    ids=["connections end", "the database is away", "rows are missing"],
)
def test_what_fails_after_the_database_was_restored_says_so(
    made: Backup, empty: Service, tmp_path: Path, afterwards: str, told: str | None
) -> None:
    """While pg_restore runs, a server or a proxy may end a connection that is idle."""
    server = json.loads((made.directory / "manifest.json").read_bytes())["postgresql"].partition(".")[0]
    (tmp_path / "pg_restore").write_text(
        f"""#!{sys.executable}
import asyncio, asyncpg, subprocess, sys
async def end_connections():
    connection = await asyncpg.connect({operator_of(empty)!r})
    await connection.execute({afterwards!r})
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'service'")
if sys.argv[1:] == ["--version"]:
    sys.exit(print("pg_restore (PostgreSQL) {server}.0"))
subprocess.run([{str(newest_pg_restore())!r}, *sys.argv[1:]], check=True)
asyncio.run(end_connections())
"""
    )
    (tmp_path / "pg_restore").chmod(0o755)
    share = embedded.start(empty.data_dir)
    try:
        places = {"DATA_DIR": str(empty.data_dir), "DATABASE_URL": embedded.dsn(empty.data_dir)}
        done = piccolo("service", "restore", str(made.directory), POSTGRES_BIN=str(tmp_path), **places)
    finally:
        share.stop()
    assert done.returncode == (0 if told is None else 1), done.stdout + done.stderr
    assert "Nothing was restored" not in done.stderr
    assert (told or "") in done.stderr
    assert "Traceback" not in done.stderr


def operator_of(service: Service) -> str:
    return embedded.dsn(service.data_dir).replace("service@", "postgres@")


def newest_pg_restore() -> Path:
    """That of PostgreSQL's version, which the tests' services run."""
    paths = [directory / "pg_restore" for directory in embedded.program_directories("pg_restore")]
    return next(path for path in paths if path.exists())


def test_files_stay_while_a_backup_is_made(source: Service, made: Backup) -> None:
    async def collect_beside() -> tuple[bool, str]:
        connection = await asyncpg.connect(embedded.dsn(source.data_dir))
        try:
            await connection.execute("SELECT pg_advisory_lock_shared(hashtext('collect_files'))")
            work = asyncio.create_task(asyncio.to_thread(run, source, "collect_files"))
            waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            async with asyncio.timeout(20):
                while not (is_waiting := await connection.fetchval(waits)) and not work.done():
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()
        return bool(is_waiting), (await work).stdout

    asyncio.run(execute(embedded.dsn(source.data_dir), "UPDATE files SET stored_at = now() - interval '2 days'"))
    is_waiting, printed = asyncio.run(collect_beside())
    assert is_waiting
    assert printed.startswith("files: ")


# The programs of PostgreSQL


@pytest.mark.parametrize(
    ("dsn", "address", "password"),
    [
        ("postgresql://a:s%40crt@h:5432/n", "postgresql://a@h:5432/n", "s@crt"),
        ("postgres://a@h/n?password=s%26t&sslmode=require", "postgres://a@h/n?sslmode=require", "s&t"),
        ("postgresql://a@/n?host=/run/a%20b&port=5432", "postgresql://a@/n?host=%2Frun%2Fa%20b&port=5432", None),
        ("postgresql://h/n?application_name=x&search_path=y", "postgresql://h/n", None),
        ("postgresql://a:b@h,i:1/n", "postgresql://a@h,i:1/n?target_session_attrs=read-write", "b"),
        ("postgresql://a:b@h,i/n?target_session_attrs=any", "postgresql://a@h,i/n?target_session_attrs=any", "b"),
    ],
)
def test_the_password_is_not_among_the_arguments(dsn: str, address: str, password: str | None) -> None:
    assert libpq_address(dsn) == (address, {} if password is None else {"PGPASSWORD": password})


def test_a_pg_dump_that_refuses_the_server_is_one_line(source: Service, made: Backup, tmp_path: Path) -> None:
    """It says so itself, as an older one does. This one is chosen for its version."""
    server = json.loads((made.directory / "manifest.json").read_bytes())["postgresql"].partition(".")[0]
    old = tmp_path / "bin"
    old.mkdir()
    (old / "pg_dump").write_text(
        f"#!/bin/sh\n[ $1 = --version ] && echo 'pg_dump (PostgreSQL) {server}.0' && exit\n"
        "echo 'pg_dump: error: aborting because of server version mismatch' >&2\n"
        "echo 'pg_dump: detail: server version: 18; pg_dump version: 15' >&2\nexit 1\n"
    )
    (old / "pg_dump").chmod(0o755)
    done = piccolo("service", "backup", str(tmp_path / "new"), DATA_DIR=str(source.data_dir), POSTGRES_BIN=str(old))
    assert_refused(done, "aborting because of server version mismatch; pg_dump: detail: server version: 18")
    assert os.listdir(tmp_path) == ["bin"]


def test_the_manifest_is_read_as_it_is_documented(made: Backup) -> None:
    fields = list(json.loads((made.directory / "manifest.json").read_bytes()))
    assert fields == list(Manifest.__struct_fields__)


def test_missing_uploads_and_those_in_a_bucket_are_told(source: Service, made: Backup, tmp_path: Path) -> None:
    manifest = json.loads((made.directory / "manifest.json").read_bytes())
    assert manifest["missing"] == []
    (path, *_) = (path for path in sorted((source.data_dir / "files").rglob("*-original.webp")))
    path.rename(tmp_path / "kept")
    try:
        done = run(source, "backup", str(tmp_path / "lacking"))
    finally:
        (tmp_path / "kept").rename(path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "files: 1 that the database names are not in the storage; the manifest lists all\n" in done.stdout
    owner = r"(portrait of character|avatar of user|card of character) \S+"
    assert re.search(rf"^  {path.name}: .*{owner}", done.stdout, re.MULTILINE)
    assert json.loads((tmp_path / "lacking" / "manifest.json").read_bytes())["missing"] == [path.name]
    bucket = {"STORAGE_URL": "s3://files/uploads", "S3_ENDPOINT_URL": "http://127.0.0.1:1"}
    names = tmp_path / "in_bucket" / "names_of_files.txt"
    done = piccolo("service", "backup", str(names.parent), DATA_DIR=str(source.data_dir), **bucket)
    assert (done.returncode, done.stderr) == (0, "")
    assert "files: they are in the bucket and not in the backup" in done.stdout
    uploads = {Path(file["name"]).name for file in manifest["files"] if file["name"].startswith("files/")}
    assert set(names.read_text().splitlines()) >= uploads - {path.name}
    with service_of_its_own() as other:
        done = piccolo("service", "restore", str(names.parent), DATA_DIR=str(other.data_dir), **bucket)
        assert done.returncode == 0, done.stderr
        assert "files: the backup has their names only" in done.stdout
