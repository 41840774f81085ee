"""Transactions that lock the same rows do not deadlock. One pauses half-way, until the other waits for it or ends."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from service.auth.suspensions import suspend_user
from service.cards.imports import controller as imports
from service.characters import bulk
from service.characters.tables import Character
from service.commands.purge import purge_everything
from service.idempotency.queries import Attempt
from service.users.tables import User
from tests.conftest import account_id, character, public, relationship
from tests.support.cards import V3, in_json
from tests.support.locks import until_waiting

Client = httpx.AsyncClient
Second = Callable[[], Awaitable[Any]]


class Pause:
    """Runs ``second`` when the first transaction comes to this point for the first time."""

    def __init__(self, second: Second) -> None:
        self.second = second
        self.task: asyncio.Task[Any] | None = None
        self.waited: bool | None = None

    async def __call__(self) -> None:
        if self.task is not None:
            return
        self.task = asyncio.create_task(_awaited(self.second), context=Context())  # outside of the open transaction
        await until_waiting(self.task)
        self.waited = not self.task.done()


async def _awaited(second: Second) -> Any:
    return await second()


def pause_after(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, pause: Pause) -> None:
    """Pauses after the first call of a function of ``module``."""
    called = getattr(module, name)

    async def call(*given: Any, **named: Any) -> Any:
        result = await called(*given, **named)
        await pause()
        return result

    monkeypatch.setattr(module, name, call)


def operations(*changes: tuple[Any, dict[str, Any]] | None) -> dict[str, Any]:
    """None creates a character."""
    return {
        "operations": [
            {"action": "update", "id": change[0]["id"], "body": change[1]}
            if change
            else {"action": "create", "body": {"name": "New"}}
            for change in changes
        ]
    }


def statuses(answer: httpx.Response) -> set[int]:
    assert answer.status_code == 200, answer.text
    return {item["status"] for item in answer.json()["items"]}


@pytest.fixture
async def four(alice: Client) -> list[Any]:
    return [await character(alice, name=name) for name in "ABCD"]


async def purge_account() -> None:
    await User.update({User.deleted_at: datetime.now(UTC) - timedelta(days=31)}).where(User.username == "alice")
    await purge_everything()


@pytest.mark.parametrize("change", ["tags", "name"])
async def test_two_bulk_requests_with_opposite_ids(
    alice: Client, four: list[Any], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    a, b, *_ = four
    body: dict[str, Any] = {change: ["x"] if change == "tags" else "Renamed"}
    pause = Pause(lambda: alice.post("/v1/characters/bulk", json=operations((b, body), (a, body))))
    pause_after(monkeypatch, bulk, "_attempt", pause)
    first = await alice.post("/v1/characters/bulk", json=operations((a, body), (b, body)))
    assert pause.task is not None
    assert statuses(first) == statuses(await pause.task) == {200}


async def test_two_bulk_requests_that_rename_both_ends(
    alice: Client, four: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They change other characters, but the same relationships."""
    a, b, c, d = four
    await relationship(alice, a, d)
    await relationship(alice, c, b)
    new = {"name": "Renamed"}
    pause = Pause(lambda: alice.post("/v1/characters/bulk", json=operations((b, new), (d, new))))
    pause_after(monkeypatch, bulk, "_attempt", pause)
    first = await alice.post("/v1/characters/bulk", json=operations((a, new), (c, new)))
    assert pause.task is not None
    assert statuses(first) == statuses(await pause.task) == {200}


async def test_a_bulk_request_locks_nothing_of_others(
    alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, other = await public(alice, "A"), await character(alice, name="B")
    link = await relationship(alice, shown, other)
    pause = Pause(lambda: alice.patch(f"/v1/relationships/{link['id']}?from={shown['id']}", json={"attitude": 5}))
    pause_after(monkeypatch, bulk, "_attempt", pause)
    deletion = {"operations": [{"action": "delete", "id": shown["id"]}]}
    assert statuses(await charlie.post("/v1/characters/bulk", json=deletion)) == {403}
    assert pause.task is not None
    assert pause.waited is False
    assert (await pause.task).status_code == 200


async def test_a_bulk_request_and_a_suspension(alice: Client, four: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    alice_id = await account_id("alice")
    pause = Pause(lambda: suspend_user(alice_id))
    pause_after(monkeypatch, bulk, "_attempt", pause)
    first = await alice.post("/v1/characters/bulk", json=operations((four[0], {"tags": ["x"]}), None))
    assert statuses(first) == {200, 201}
    assert pause.task is not None
    await pause.task
    assert await Character.count().where(Character.owner_inactive.eq(False)) == 0


async def test_a_request_with_a_key_and_a_suspension(
    alice: Client, four: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alice_id = await account_id("alice")
    pause = Pause(lambda: suspend_user(alice_id))
    keep = Attempt.keep_answer

    async def keep_later(*given: Any) -> None:
        await pause()
        await keep(*given)

    monkeypatch.setattr(Attempt, "keep_answer", keep_later)
    path = f"/v1/characters/{four[0]['id']}/relationships"
    body = {"target": four[1]["id"], "type": "parent_of"}
    assert (await alice.post(path, json=body, headers={"Idempotency-Key": "1"})).status_code == 201
    assert pause.task is not None
    await pause.task


@pytest.mark.parametrize("purge", ["trash", "account"])
async def test_an_import_and_a_purge(
    alice: Client, four: list[Any], monkeypatch: pytest.MonkeyPatch, purge: str
) -> None:
    if purge == "trash":
        await alice.delete(f"/v1/characters/{four[0]['id']}")
    second = (lambda: alice.delete(f"/v1/trash/{four[0]['id']}")) if purge == "trash" else purge_account
    pause = Pause(second)
    pause_after(monkeypatch, imports.queries, "import_card", pause)
    cards = [("file", (f"{number}.json", in_json(V3))) for number in range(2)]
    answer = await alice.post("/v1/imports", files=cards, headers={"Idempotency-Key": "1"})
    assert statuses(answer) == {201}
    assert pause.task is not None
    purged = await pause.task
    assert purged.status_code == 204 if purge == "trash" else not await Character.exists()


async def test_a_bulk_request_and_a_purge_of_the_trash(
    alice: Client, four: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The purge changes the copies of the character and its owner's usage."""
    copy = (await alice.post(f"/v1/characters/{four[0]['id']}/copies", json={})).json()
    await alice.delete(f"/v1/characters/{four[0]['id']}")
    pause = Pause(lambda: alice.delete(f"/v1/trash/{four[0]['id']}"))
    pause_after(monkeypatch, bulk, "_attempt", pause)
    first = await alice.post("/v1/characters/bulk", json=operations(None, (copy, {"tags": ["x"]})))
    assert statuses(first) == {200, 201}
    assert pause.task is not None
    assert (await pause.task).status_code == 204


async def test_renames_and_a_new_relationship(alice: Client, four: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, *_ = four
    body = {"target": b["id"], "type": "parent_of"}
    pause = Pause(lambda: alice.post(f"/v1/characters/{a['id']}/relationships", json=body))
    pause_after(monkeypatch, bulk, "_attempt", pause)
    first = await alice.post("/v1/characters/bulk", json=operations((b, {"name": "Bea"}), (a, {"name": "Ada"})))
    assert statuses(first) == {200}
    assert pause.task is not None
    created = await pause.task
    assert created.status_code == 201
    read = (await alice.get(f"/v1/relationships/{created.json()['id']}")).json()
    assert (read["source"]["name"], read["target"]["name"]) == ("Ada", "Bea")
