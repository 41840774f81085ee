"""The release before serves beside this one, on the database that this one has migrated: what an upgrade without a
pause needs, and a rollback. docs/operations.md says which migrations keep it so."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers import (
    ROOT,
    Service,
    directory_of_its_own,
    environment_of,
    piccolo,
    service_of_its_own,
    worker_of_its_own,
)

pytestmark = pytest.mark.slow

NEWEST = max((ROOT / "piccolo_migrations").glob("service_*.py"))
SETTINGS = {"RATE_LIMIT_SCALE": "1000"}


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def find_release_before() -> str:
    """The newest tag of a release before this commit. Without one, the commit before the newest migration; empty if the
    history does not reach so far."""
    if tag := git("describe", "--tags", "--abbrev=0", "--match=v[0-9]*", "HEAD^"):
        return tag
    added = git("log", "--diff-filter=A", "--format=%H", "-1", "--", str(NEWEST))
    return git("rev-parse", "--verify", "--quiet", f"{added}^") if added else ""


@pytest.fixture(scope="module")
def old_code() -> Iterator[Path]:
    release = find_release_before()
    if not release:
        pytest.skip("the history has no release before: it is shallow, or no repository")
    with directory_of_its_own() as directory:
        archive, code = directory / "release.tar", directory / "code"
        code.mkdir()
        subprocess.run(["git", "archive", "-o", archive, release], cwd=ROOT, check=True)
        subprocess.run(["tar", "-xf", archive, "-C", code], check=True)
        yield code


@pytest.fixture(scope="module")
def old(old_code: Path, fresh_database: str) -> Iterator[Service]:
    """The old release, which has migrated its database and serves."""
    given = {"DATABASE_URL": fresh_database, "PYTHONPATH": str(old_code), **SETTINGS}
    program = Path(sys.executable).with_name("piccolo")
    command = [program, "migrations", "forwards", "all"]
    done = subprocess.run(command, cwd=old_code, env=environment_of(**given), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with service_of_its_own(**given) as service:
        service.command = ("-m", "uvicorn", "service.app:app", "--port", str(service.port), "--no-access-log")
        yield service.start()


@pytest.fixture(scope="module")
def migrated(old: Service, fresh_database: str) -> None:
    done = piccolo("migrations", "forwards", "all", DATABASE_URL=fresh_database)
    assert done.returncode == 0, done.stdout + done.stderr


def tour(code: Path) -> str:
    """All commands of the documents of a release, in their order."""
    pages = [(code / name).read_text() for name in ("README.md", "docs/guide.md", "docs/api.md")]
    blocks = [
        block for page in pages for block in re.findall(r"^```sh tour\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ]
    assert len(blocks) > 10
    return "\n".join(["set -eu", *blocks])


def test_the_old_release_reads_and_writes_on_the_new_schema(old: Service, old_code: Path, migrated: None) -> None:
    environment = os.environ | {"API": f"{old.url}/v1"}
    done = subprocess.run(
        ["bash", "-c", tour(old_code)],
        cwd=old.directory, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with old.client() as client:
        ready = client.get("/health/ready")
        assert (ready.status_code, ready.json()["checks"]["migrations"]) == (200, "ok")
        assert 'status="5' not in client.get("/metrics").text
    assert "ERROR" not in old.output


def test_both_releases_read_and_write_what_the_other_wrote(old: Service, fresh_database: str, migrated: None) -> None:
    with worker_of_its_own(DATABASE_URL=fresh_database, **SETTINGS) as new:
        new.start()
        account = {"email": "eve@example.org", "username": "eve", "password": "a long enough password"}
        assert httpx.post(f"{old.url}/v1/users", json=account).status_code == 201
        session = httpx.post(f"{new.url}/v1/sessions", json={"login": "eve", "password": account["password"]}).json()
        token = {"Authorization": f"Bearer {session['token']}"}
        with old.client(**token) as before, new.client(**token) as after:
            for writer, reader in ((before, after), (after, before)):
                made = writer.post("/v1/characters", json={"name": "Mira", "tags": ["noir"], "visibility": "public"})
                assert made.status_code == 201
                path = f"/v1/characters/{made.json()['id']}"
                assert reader.get(path).json() == writer.get(path).json()
                assert reader.get("/v1/characters?q=mira").json()["items"]
                changed = reader.patch(path, json={"name": "Otto"})
                assert changed.status_code == 200
                assert writer.get(path).json() == changed.json()
                assert writer.get(f"{path}/revisions").json() == reader.get(f"{path}/revisions").json()
                assert writer.get("/v1/changes").json()["items"] == reader.get("/v1/changes").json()["items"]
                assert writer.delete(path).status_code == 204
                assert reader.get(path).status_code == 404
        assert "ERROR" not in new.output
    assert "ERROR" not in old.output
