"""What the stored responses of a user add up to in a day is bounded."""

import httpx
import pytest

from service.characters.tables import Character
from service.database.engine import DB
from service.idempotency import queries
from service.limits.rate_limits import STORED_RESPONSES
from tests.conftest import character

Client = httpx.AsyncClient

MOST = 400_000


async def stored() -> int:
    """The bytes of all rows: a response's, and what a row has beside it."""
    query = "SELECT coalesce(sum(length(body) + 512), 0) AS bytes FROM idempotency_keys"
    return int((await DB._run_in_pool(query))[0]["bytes"])


@pytest.fixture(autouse=True)
def few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    STORED_RESPONSES.counter._local._ends_and_counts.clear()
    queries._not_counted.clear()
    monkeypatch.setitem(STORED_RESPONSES.__dict__, "most", MOST)


@pytest.mark.parametrize("size", [100, 10_000, 60_000, 150_000])
async def test_the_stored_responses_of_a_day_are_bounded(alice: Client, charlie: Client, size: int) -> None:
    async def create(member: Client, number: int) -> httpx.Response:
        body = {"name": "Mira", "extensions": {"notes": "n" * size}}
        return await member.post("/v1/characters", json=body, headers={"Idempotency-Key": f"key-{number}"})

    last = (MOST + 64 * 1024) // (size + 700)
    answers = [await create(alice, number) for number in range(last + 1)]
    statuses = [answer.status_code for answer in answers]
    assert statuses == sorted(statuses)
    assert {*statuses} == {201, 429}
    assert MOST // 2 < await stored() <= MOST + 64 * 1024
    assert await Character.count() == statuses.count(201)  # a refused request changed nothing

    refused = answers[-1]
    assert refused.json()["type"] == "/problems/too-many-requests"
    assert f"The limit 'stored-responses' is {MOST} in a day for each caller." in refused.json()["detail"]
    assert "Nothing was changed. The request is not refused without the key." in refused.json()["detail"]
    assert 86_000 < int(refused.headers["retry-after"]) <= 86_400

    assert (await create(alice, 0)).headers["idempotency-replayed"] == "true"
    assert (await create(charlie, 0)).status_code == 201
    await character(alice)  # without a key
    assert (await create(alice, last)).status_code == 429
