"""Slow queries are logged by name, once a minute, with the id of their request and without values."""

import asyncio
import time
from collections.abc import Iterator
from contextvars import Context
from typing import Any

import httpx
import pytest
from loguru import logger

from service.characters.tables import Character
from service.database import measured
from service.database.engine import DB
from service.log import OncePerMinute
from tests.conftest import character
from tests.support.locks import until_waiting

ID = "number-1"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The lines about slow queries, from a minute in which there was none yet."""
    monkeypatch.setattr(measured, "_LINES", OncePerMinute())
    lines: list[dict[str, Any]] = []

    def note(line: Any) -> None:
        if "query" in line.record["extra"]:
            lines.append(line.record["extra"] | {"message": line.record["message"], "all": str(line.record)})

    sink = logger.add(note, level="WARNING")
    yield lines
    logger.remove(sink)


def of_request(lines: list[dict[str, Any]]) -> list[str]:
    return [line["query"] for line in lines if line.get("request_id") == ID]


async def test_a_query_that_waits_is_logged(
    alice: httpx.AsyncClient, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mira = await character(alice)
    monkeypatch.setattr(measured, "_SLOW", 0.15)
    for _ in range(3):
        async with DB.transaction():
            await Character.select(Character.id).where(Character.id == mira["id"]).lock_rows()
            patch = alice.patch(f"/v1/characters/{mira['id']}", json={"name": "Mirabel"}, headers={"X-Request-ID": ID})
            change = asyncio.create_task(patch, context=Context())  # not in this transaction
            await until_waiting(change)
            await asyncio.sleep(0.2)
        assert (await change).status_code == 200
    (line,) = lines
    assert (line["query"], line["request_id"], line["times"]) == ("characters.store._update", ID, 1)
    assert 0.15 < line["seconds"] < 2
    assert line["message"] == f"The query characters.store._update took {line['seconds']:.3f} s."
    assert mira["id"] not in line["all"]
    assert "Mirabel" not in line["all"]


@pytest.mark.parametrize(
    ("method", "path", "body", "names"),
    [
        ("GET", "/v1/characters", None, ["lists.CharacterQuery.page"]),
        ("GET", "/v1/characters/{id}", None, ["characters.store.GET"]),  # coalesced
        ("PATCH", "/v1/characters/{id}", {"name": "A"}, ["characters.store._OWN", "characters.store._update"]),
        ("DELETE", "/v1/characters/{id}", None, ["BEGIN", "characters.store._LOCK", "COMMIT"]),
        ("GET", "/v1/sessions", None, ["auth.queries._LIST_SESSIONS"]),
        ("PATCH", "/v1/users/me", {"display_name": "A"}, ["UPDATE users"]),  # by Piccolo
    ],
)
async def test_the_name_of_a_query(
    alice: httpx.AsyncClient,
    lines: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    body: Any,
    names: list[str],
) -> None:
    mira = await character(alice)
    monkeypatch.setattr(measured, "_SLOW", 0.0)
    path = path.format(id=mira["id"])
    assert (await alice.request(method, path, json=body, headers={"X-Request-ID": ID})).is_success
    found = of_request(lines)
    assert [name for name in found if name in names] == names, found


async def test_each_minute_has_a_line_with_how_often_the_query_was_slow(
    alice: httpx.AsyncClient, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "_SLOW", 0.0)
    now = time.monotonic
    for later in (0, 10, 59, 61, 62):
        monkeypatch.setattr("service.log.time.monotonic", lambda later=later: now() + later)
        await alice.get("/v1/sessions", headers={"X-Request-ID": ID})
    assert [line["times"] for line in lines if line["query"] == "auth.queries._LIST_SESSIONS"] == [1, 3]


async def test_quick_queries_are_not_logged(alice: httpx.AsyncClient, lines: list[dict[str, Any]]) -> None:
    await alice.get("/v1/characters")
    assert lines == []
