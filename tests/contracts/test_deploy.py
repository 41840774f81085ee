"""The files in deploy/ and docs/kubernetes.md name the commands, paths, ports and settings that the service has."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.app import app
from tests.support.images import DOCKERFILE, compose_services, instructions
from tests.support.servers import ROOT, VARIABLES


def _pods(part: Any) -> Iterator[dict[str, Any]]:
    """The specifications of pods in a manifest."""
    if isinstance(part, dict):
        if "containers" in part:
            yield part
        for one in part.values():
            yield from _pods(one)


SERVICES = compose_services()
RELEASE, WEB = (line.partition(": ")[2] for line in (ROOT / "Procfile").read_text().splitlines())
PAGE = (ROOT / "docs/kubernetes.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MANIFESTS: list[dict[str, Any]] = [manifest for block in BLOCKS for manifest in yaml.safe_load_all(block)]
PODS = [found for one in MANIFESTS for found in _pods(one)]


def test_the_build_may_read_what_it_copies() -> None:
    lines = Path(f"{DOCKERFILE}.dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == allowed


def test_the_image_and_the_jobs_run_the_commands_of_the_procfile() -> None:
    assert dict(instructions())["CMD"] == f'["sh", "-c", "exec {WEB}"]'
    assert SERVICES["migrate"]["command"] == RELEASE.split()


def test_no_service_of_compose_may_do_more_than_it_needs() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "@sha256:" in service["image"] or service["image"] == "character-service", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_nginx_gets_the_addresses_of_both_instances() -> None:
    script = SERVICES["nginx"]["command"][0].partition(" /etc/nginx/")[0]
    done = subprocess.run(["sh", "-c", f"{script} {ROOT}/deploy/nginx.conf"], capture_output=True, text=True)
    servers = [
        f"server {SERVICES[name]['networks']['front']['ipv4_address']}:8000 max_fails=0;" for name in ("one", "two")
    ]
    assert f"        {' '.join(servers)}\n" in done.stdout
    assert SERVICES["one"]["environment"]["TRUSTED_PROXIES"] == SERVICES["nginx"]["networks"]["front"]["ipv4_address"]


def test_the_database_of_compose_has_the_roles_of_the_page() -> None:
    page = re.search(r"^```sql roles\n(.*?)^```$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE | re.DOTALL)
    assert page is not None
    script = (ROOT / "deploy/postgres/roles.sh").read_text()
    statements = [line for line in page[1].splitlines() if not line.startswith(("CREATE ROLE", "\\connect"))]
    assert [statement for statement in statements if statement not in script] == []


def test_the_units_run_the_commands_of_the_procfile() -> None:
    def program(name: str) -> str:
        unit = (ROOT / "deploy/systemd" / name).read_text()
        found = re.search(r"^ExecStart=/srv/characters/.venv/bin/(.+)$", unit, re.MULTILINE)
        assert found is not None
        return found[1]

    assert program("characters-migrate.service") == RELEASE
    here = WEB.replace("0.0.0.0", "127.0.0.1").replace("${PORT:-8000}", "${PORT}")
    assert program("characters-web.service") == here.replace("${WEB_CONCURRENCY:-1}", "${WEB_CONCURRENCY}")


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_the_manifests_are_valid(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.34", strict=True)
    if manifest["kind"] in ("ConfigMap", "Secret"):
        assert (manifest.get("data") or manifest["stringData"]).keys() <= VARIABLES


@pytest.mark.parametrize("pod", PODS, ids=lambda pod: pod["containers"][0]["name"])
def test_the_pods_run_what_the_image_has_and_without_rights(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    image = dict(instructions())
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == image["USER"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {port["containerPort"] for port in container.get("ports", ())} <= {int(image["EXPOSE"])}
    paths = {route.path for route in app.routes}
    assert {probe["httpGet"]["path"] for name, probe in container.items() if name.endswith("Probe")} <= paths
    if container["name"] == "migrate":
        assert container["command"] == RELEASE.split()
