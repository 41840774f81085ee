"""Schemathesis sends a running service what its OpenAPI document allows and what it forbids, and checks the answers
against the document: ``schemathesis.toml`` says what little it forgives."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import FIGHTER, PASSWORD
from tests.support.pictures import draw_picture
from tests.support.routes import routes_with
from tests.support.servers import ROOT, Service, service_of_its_own

ENDINGS = sorted(routes_with("ends"))  # nothing else can be asked after them
EXAMPLES = 150  # for each operation and phase
SEED = 1
AT_MOST = 900  # seconds
THERE = 60  # of each kind of thing that a random id may be of
KEYS = 20  # of the 100 that an account may have

# The stateful phase follows resources from request to request. It would take the effects of a dry run for real ones.
STATEFUL = "stateful.toml"
IN_EARNEST = '"query.dry_run" = false'

# Half of all ids are of something that is there.
BINDINGS = """
[dictionaries]
characters.from-file = "characters"
trash.from-file = "trash"
templates.from-file = "templates"
relationships.from-file = "relationships"
sessions.from-file = "sessions"
keys.from-file = "keys"
numbers.values = [1, 2, 3]
passwords.values = ["{password}"]
usernames.values = ["{username}"]

[parameters]
{more}
"path.character_id" = {{ dictionary = "characters", probability = 0.5 }}
"path.template_id" = {{ dictionary = "templates", probability = 0.5 }}
"path.relationship_id" = {{ dictionary = "relationships", probability = 0.5 }}
"path.session_id" = {{ dictionary = "sessions", probability = 0.5 }}
"path.username" = {{ dictionary = "usernames", probability = 0.5 }}
"path.number" = {{ dictionary = "numbers", probability = 0.5 }}
"body.target" = {{ dictionary = "characters", probability = 0.5 }}

[[operations]]
include-name = "POST /v1/api-keys"
parameters."body.current_password" = {{ dictionary = "passwords", probability = 0.9 }}

[[operations]]
include-name = ["GET /v1/api-keys/{{key_id}}", "DELETE /v1/api-keys/{{key_id}}"]
parameters."path.key_id" = {{ dictionary = "keys", probability = 0.5 }}

[[operations]]
include-path-regex = "^/v1/trash/"
parameters."path.character_id" = {{ dictionary = "trash", probability = 0.5 }}
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with service_of_its_own(RATE_LIMIT_SCALE="100000", PASSWORD_MEMORY_KIB="8192") as service:
        yield service.start()


@pytest.mark.slow
def test_every_answer_is_as_the_document_says(service: Service, tmp_path: Path) -> None:
    with _signed_in(service, "alice") as alice:
        _furnish(alice, tmp_path)
        operations = _operations(alice) - {*ENDINGS}
        excluding = [argument for name in ENDINGS for argument in ("--exclude-name", name)]
        told = _run(service, alice, tmp_path, *excluding, "--max-examples", str(EXAMPLES))
        assert f"Tested: {len(operations)}\n" in told
        _run(service, alice, tmp_path, *excluding, "--max-examples", str(EXAMPLES), config=STATEFUL, phases="stateful")
        assert alice.get("/v1/users/me").status_code == 200, "the session ended on the way"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_ends_a_session_answers_so_too(service: Service, tmp_path: Path, ending: str) -> None:
    with _signed_in(service, re.sub("[^a-z]+", "-", ending.lower()).strip("-")) as member:
        _furnish(member, tmp_path)
        told = _run(service, member, tmp_path, "--include-name", ending, "--max-examples", "20")
        assert "Tested: 1\n" in told


def _run(
    service: Service,
    member: httpx.Client,
    directory: Path,
    *arguments: str,
    config: str = "schemathesis.toml",
    phases: str = "examples,coverage,fuzzing",
) -> str:
    """The output of schemathesis. Fails if it found a fault."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "--config-file", config, "run",
            f"{service.url}/openapi.json",
            "--header", f"Authorization: {member.headers['Authorization']}",
            "--phases", phases, "--mode", "all",
            "--seed", str(SEED), "--generation-database", "none", "--continue-on-failure", "--no-color",
            *arguments,
        ],
        cwd=directory, capture_output=True, text=True, timeout=AT_MOST,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-30_000:] + done.stderr[-2_000:]
    return done.stdout


def _operations(member: httpx.Client) -> set[str]:
    paths = member.get("/openapi.json").json()["paths"]
    return {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}


@contextmanager
def _signed_in(service: Service, username: str) -> Iterator[httpx.Client]:
    with service.client() as member:
        _made(member, "/v1/users", email=f"{username}@example.org", username=username, password=PASSWORD)
        session = _made(member, "/v1/sessions", login=username, password=PASSWORD)
        member.headers["Authorization"] = f"Bearer {session['token']}"
        yield member


def _furnish(member: httpx.Client, directory: Path) -> None:
    """Gives the member things, and schemathesis their ids."""
    png, shown = {"Content-Type": "image/png"}, _made(member, "/v1/characters", name="Mira")["id"]
    for path in (f"/v1/characters/{shown}/portrait", "/v1/users/me/avatar"):
        assert member.put(path, content=draw_picture(), headers=png).status_code == 200
    characters = [_made(member, f"/v1/characters/{shown}/copies")["id"] for _ in range(THERE)]
    trash = [_made(member, "/v1/characters", name="Gone")["id"] for _ in range(3 * THERE)]
    for character in trash:
        assert member.delete(f"/v1/characters/{character}").status_code == 204
    relationships = [
        _made(member, f"/v1/characters/{source}/relationships", target=target, type="friend_of")["id"]
        for source, target in pairwise(characters)
    ]
    templates = [_made(member, "/v1/templates", name="Fighter", attribute_schema=FIGHTER)["id"] for _ in range(THERE)]
    for template in templates:
        versions = f"/v1/templates/{template}/versions"
        _made(member, versions, attribute_schema=FIGHTER)
        assert member.put(f"{versions}/2/publication").status_code == 200
        _made(member, versions, attribute_schema=FIGHTER)
    login = {"login": member.get("/v1/users/me").json()["username"], "password": PASSWORD}
    sessions = [_made(member, "/v1/sessions", **login)["id"] for _ in range(THERE)]
    key = {"name": "CI", "scopes": ["characters:read"], "current_password": PASSWORD}
    _write(directory / "keys", [_made(member, "/v1/api-keys", **key)["id"] for _ in range(KEYS)])
    _write(directory / "sessions", sessions)
    _write(directory / "characters", characters)
    _write(directory / "trash", trash)
    _write(directory / "relationships", relationships)
    _write(directory / "templates", templates)
    checks = (ROOT / "schemathesis.toml").read_text()
    for name, more in (("schemathesis.toml", ""), (STATEFUL, IN_EARNEST)):
        bindings = BINDINGS.format(password=PASSWORD, username=login["login"], more=more)
        (directory / name).write_text(checks + bindings)


def _made(member: httpx.Client, path: str, **body: Any) -> Any:
    answer = member.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def _write(path: Path, values: Iterable[str]) -> None:
    path.write_text("".join(f'"{value}"\n' for value in values))
