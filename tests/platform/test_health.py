"""The readiness check of the storage."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from service.settings import settings
from tests.conftest import client


@pytest.mark.parametrize("below", ["", "data"])
async def test_storage_at_a_file_is_not_ready(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    await assert_not_writable(stranger, monkeypatch, file / below)


async def test_storage_that_refuses_writes_is_not_ready(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await assert_not_writable(stranger, monkeypatch, Path("/proc/self"))  # refuses writes from root, too


METRICS = ["/metrics", "/metrics/", "//metrics", "/metrics//", "/metrics?x", "/metrics/?x", "/%6detrics", "/metrics%2F"]


@pytest.mark.parametrize("path", METRICS)
async def test_metrics_are_for_this_machine_or_the_token(
    app: Any, stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr("service.health.settings", msgspec.structs.replace(settings, metrics_token="t0ken"))
    url = httpx.URL(f"http://localhost{path}")
    assert (await stranger.get(url)).status_code == 200
    proxies = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Real-IP": "203.0.113.9",
        "Forwarded": "for=203.0.113.9",
        "X-Forwarded-Proto": "https",
        "Via": "1.1 proxy",
    }
    for name, value in proxies.items():
        assert (await stranger.get(url, headers={name: value})).status_code == 403, name
    async with client(app, "203.0.113.9") as elsewhere:
        for token, status in (("", 403), ("t0ke", 403), ("t\xf6ken", 403), ("t0ken", 200)):
            headers = [("Authorization", f"Bearer {token}".encode("latin-1"))]
            assert (await elsewhere.get(url, headers=headers)).status_code == status, token


async def assert_not_writable(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr("service.health.settings", msgspec.structs.replace(settings, data_dir=directory))
    ready = await client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
    assert ready.json()["checks"] == {"database": "ok", "migrations": "ok", "storage": "not writable"}
    assert ready.headers["Retry-After"] == "1"


async def test_the_check_leaves_no_file(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data_dir = tmp_path / "new"
    monkeypatch.setattr("service.health.settings", msgspec.structs.replace(settings, data_dir=data_dir))
    assert (await stranger.get("/health/ready")).json() == {
        "status": "ok",
        "checks": {"database": "ok", "migrations": "ok", "storage": "ok"},
    }
    assert list(data_dir.iterdir()) == []
