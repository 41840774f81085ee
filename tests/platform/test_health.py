"""The readiness check of the storage."""

from pathlib import Path

import httpx
import msgspec
import pytest

from service.settings import settings


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
