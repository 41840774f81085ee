"""The feed after its database was restored from a dump: the numbers of the transactions are those of another server."""

from collections.abc import AsyncIterator

import httpx
import pytest

from service.commands import resync as command
from service.commands.resync import resync
from service.database.engine import DB
from tests.conftest import character, template

Client = httpx.AsyncClient

PATH = "/v1/changes?kind=character,template"


@pytest.fixture
async def restored(alice: Client) -> AsyncIterator[list[str]]:
    """Alice's resources, with numbers that this server has not reached. Returns their ids."""
    ids = sorted([(await character(alice))["id"] for _ in range(3)] + [(await template(alice))["id"]])
    await DB.run_ddl("ALTER TABLE characters DISABLE TRIGGER number_transaction")
    for table in ("characters", "changed_rows"):
        await DB.run_ddl(f"UPDATE {table} SET written_in = written_in + 1000000000")
    await DB.run_ddl("ALTER TABLE characters ENABLE TRIGGER number_transaction")
    await DB.run_ddl("UPDATE feed_cluster SET system_identifier = 1")
    yield ids
    await resync()


async def test_the_feed_waits_for_the_resync(alice: Client, restored: list[str]) -> None:
    for accept in ("application/json", "text/event-stream"):
        refused = await alice.get(PATH, headers={"Accept": accept})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "piccolo service resync" in refused.json()["detail"]


async def test_a_resync_renumbers_what_is_ahead_of_the_server(
    alice: Client, restored: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "BATCH_SIZE", 2)
    later = (await character(alice))["id"]
    await resync()
    page = (await alice.get(PATH)).json()
    assert sorted(item["id"] for item in page["items"]) == sorted([*restored, later])
    assert "characters: 3 rows" in capsys.readouterr().out
    await resync()
    assert "characters: 0 rows renumbered\nchanged_rows: 0 rows renumbered" in capsys.readouterr().out
    assert (await alice.get(f"{PATH}&after={page['next_cursor']}")).json()["items"] == []
