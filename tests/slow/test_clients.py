"""Linters accept the OpenAPI document, and the clients that four generators make of it pass a strict type checker and
take the tour through a running service."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.contracts.test_openapi import SNAPSHOT
from tests.support.servers import ROOT, Service, service_of_its_own

pytestmark = pytest.mark.slow

CLIENTS = ROOT / "deploy/clients"
BUILD = CLIENTS / "build"
TOURS = Path(__file__).parent / "clients"
PYTHON = str(CLIENTS / ".venv/bin/python")
TSCONFIG = '{"extends": "../../tsconfig.json", "include": ["**/*.ts"]}'
TYPESCRIPT = {
    "openapi_fetch": ["openapi-typescript", str(SNAPSHOT), "--output", "schema.d.ts"],
    "hey_api": ["openapi-ts", "-f", str(CLIENTS / "openapi-ts.config.mjs")],
    "orval": ["orval", "--config", str(CLIENTS / "orval.config.mjs")],
}


@pytest.fixture(scope="module", autouse=True)
def packages() -> Path:
    """The directory of the two packages that `make clients` builds."""
    run("make", f"PYTHON={sys.executable}", "clients", cwd=ROOT)
    return BUILD / "packages"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with service_of_its_own() as service:
        yield service.start()


def run(*command: str, cwd: Path, **environment: str) -> str:
    """The output of a command that must succeed."""
    path = [CLIENTS / ".venv/bin", CLIENTS / "node_modules/.bin", os.environ["PATH"]]
    environment |= {
        "PATH": ":".join(map(str, path)),
        "REDOCLY_TELEMETRY": "off",
        "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
    }
    done = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-5_000:]
    return done.stdout + done.stderr


def picture_in(directory: Path) -> str:
    path = directory / "mira.png"
    Image.new("RGB", (80, 80), "#c27a43").save(path)
    return str(path)


def fresh(directory: Path) -> Path:
    run("rm", "-rf", str(directory), cwd=ROOT)
    directory.mkdir(parents=True)
    return directory


def readme_code(language: str, directory: str, service: Service) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", (CLIENTS / directory / "README.md").read_text(), re.M | re.S)
    assert isinstance(code, str)
    assert "http://127.0.0.1:8000" in code
    return code.replace("http://127.0.0.1:8000", service.url)


def test_the_document_that_is_built_from_is_the_one_that_is_served(service: Service) -> None:
    served = httpx.get(f"{service.url}/openapi.json").json()
    assert json.dumps(served) == json.dumps(json.loads(SNAPSHOT.read_bytes())), "also in the same order"


def test_redocly_finds_nothing(tmp_path: Path) -> None:
    printed = run("redocly", "lint", str(SNAPSHOT), "--config", str(CLIENTS / "redocly.yaml"), cwd=tmp_path)
    assert "Your API description is valid" in printed
    assert "warning" not in printed


def test_spectral_finds_nothing(tmp_path: Path) -> None:
    rules = str(CLIENTS / "spectral.yaml")
    run("spectral", "lint", str(SNAPSHOT), "--ruleset", rules, "--fail-severity", "hint", cwd=tmp_path)


@pytest.mark.parametrize("generator", TYPESCRIPT)
def test_a_typescript_client_takes_the_tour(generator: str, service: Service, tmp_path: Path) -> None:
    directory = fresh(BUILD / generator)
    run(*TYPESCRIPT[generator], cwd=directory, OPENAPI=str(SNAPSHOT), OUTPUT=str(directory))
    (directory / "tour.ts").write_bytes((TOURS / f"{generator}.ts").read_bytes())
    (directory / "tsconfig.json").write_text(TSCONFIG)
    run("tsc", "--project", ".", cwd=directory)
    printed = run("tsx", "tour.ts", cwd=directory, API=service.url, PICTURE=picture_in(tmp_path))
    assert "The tour is done." in printed


def test_the_python_client_takes_the_tour(service: Service, packages: Path, tmp_path: Path) -> None:
    omitted = re.findall(
        r"^Unsupported content type (\S+)|^(Unable .*|.*will (?:not )?be .*)$", (BUILD / "python.log").read_text(), re.M
    )
    assert {name for name, _ in omitted} == {"image/*"}, "forms are there for what the generator leaves out"
    (wheel,) = packages.glob("*.whl")
    run(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), str(wheel), cwd=ROOT)
    tour = tmp_path / "tour.py"
    tour.write_bytes((TOURS / "tour.py").read_bytes())
    run(PYTHON, "-m", "mypy", "--strict", "character_service_client", "tour.py", cwd=tmp_path)
    printed = run(PYTHON, str(tour), cwd=tmp_path, API=service.url, PICTURE=picture_in(tmp_path))
    assert "The tour is done." in printed


def test_the_readme_of_the_typescript_package_is_right(service: Service, packages: Path) -> None:
    directory = fresh(BUILD / "readme")
    (package,) = packages.glob("*.tgz")
    (directory / "package.json").write_text('{"private": true, "type": "module"}')
    run("npm", "install", "--offline", "--no-audit", "--no-fund", str(package), cwd=directory)
    (directory / "readme.ts").write_text(readme_code("ts", "typescript", service))
    (directory / "tsconfig.json").write_text(TSCONFIG)
    run("tsc", "--project", ".", cwd=directory)
    assert run("node", "readme.ts", cwd=directory).strip() == "[ 'Mira Halloran' ]"


def test_the_readme_of_the_python_package_is_right(service: Service, packages: Path, tmp_path: Path) -> None:
    (wheel,) = packages.glob("*.whl")
    run(PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), str(wheel), cwd=ROOT)
    (tmp_path / "readme.py").write_text(readme_code("python", "python", service))
    run(PYTHON, "-m", "mypy", "--strict", "readme.py", cwd=tmp_path)
    assert run(PYTHON, "readme.py", cwd=tmp_path).strip() == "['Mira Halloran']"
