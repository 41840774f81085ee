"""Reading all pages of a list in any order during writes: each row that stays is shown once, in its place."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.characters.tables import Character
from service.identifiers import uuid7
from service.users.tables import User

Client = httpx.AsyncClient

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
KEYS = ("created_at", "updated_at", "name")
TAGS = ("a", "b")
FOLDED = {"Ada": "ada", "ada": "ada", "Éa": "ea", "ß": "ss"}  # names, and what they are sorted by

rows = st.fixed_dictionaries(
    {
        "name": st.sampled_from([*FOLDED]),
        "created_at": st.integers(0, 1),
        "updated_at": st.integers(0, 1),
        "tags": st.lists(st.sampled_from(TAGS), unique=True),
        "visibility": st.sampled_from(["private", "public"]),
    }
)
sorts = st.permutations(KEYS).flatmap(
    lambda keys: st.tuples(
        st.integers(1, len(keys)), st.lists(st.booleans(), min_size=len(keys), max_size=len(keys))
    ).map(lambda drawn: list(zip(keys[: drawn[0]], drawn[1], strict=False)))
)
filters = st.sampled_from([{}, {"tags": "a"}, {"tags.any": "a,b"}, {"owner": "me"}, {"visibility": "public"}])
writes = st.tuples(st.sampled_from(["insert", "delete", "update"]), st.integers(0, 20), rows)


class Table:
    """Characters of one owner, and their expected columns."""

    def __init__(self, owner: UUID) -> None:
        self.owner = owner
        self.expected: dict[str, dict[str, Any]] = {}

    async def insert(self, row: dict[str, Any]) -> str:
        row_id = uuid7()
        times = {name: BEGINNING + timedelta(hours=row[name]) for name in ("created_at", "updated_at")}
        await Character.insert(Character(id=row_id, owner=self.owner, **row | times))
        self.expected[str(row_id)] = row
        return str(row_id)

    async def update(self, row_id: str) -> None:
        await Character.update({Character.description: "Changed", Character.version: 2}, force=True).where(
            Character.id == UUID(row_id)
        )

    async def delete(self, row_id: str) -> None:
        await Character.delete().where(Character.id == UUID(row_id))
        del self.expected[row_id]


def in_order(expected: dict[str, dict[str, Any]], sort: list[tuple[str, bool]]) -> list[str]:
    """The documented order: by each key, then by id in the direction of the first key."""
    ordered = sorted(expected, reverse=sort[0][1])
    for key, descending in reversed(sort):
        values = {row_id: FOLDED[row[key]] if key == "name" else row[key] for row_id, row in expected.items()}
        ordered.sort(key=values.__getitem__, reverse=descending)
    return ordered


def passes(row: dict[str, Any], filtered: dict[str, str]) -> bool:
    return (
        ("tags" not in filtered or filtered["tags"] in row["tags"])
        and ("tags.any" not in filtered or bool(row["tags"]))
        and ("visibility" not in filtered or row["visibility"] == filtered["visibility"])
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    present=st.lists(rows, max_size=12),
    sort=sorts,
    filtered=filters,
    limit=st.integers(1, 4),
    between=st.lists(writes, max_size=12),
)
async def test_each_row_that_stays_is_shown_once_and_in_order(
    alice: Client,
    present: list[dict[str, Any]],
    sort: list[tuple[str, bool]],
    filtered: dict[str, str],
    limit: int,
    between: list[tuple[str, int, dict[str, Any]]],
) -> None:
    await Character.delete(force=True)
    (owner,) = await User.select(User.id)
    table = Table(owner["id"])
    for row in present:
        await table.insert(row)
    stable = set(table.expected)
    parameters = {"sort": ",".join("-" * descending + key for key, descending in sort), "limit": str(limit), **filtered}
    seen: list[str] = []
    cursor: dict[str, str] = {}
    waiting = iter(between)
    for _ in range(len(present) + len(between) + 1):
        answer = (await alice.get("/v1/characters", params=parameters | cursor)).json()
        seen += [item["id"] for item in answer["items"]]
        if answer["next_cursor"] is None:
            break
        cursor = {"cursor": answer["next_cursor"]}
        write, number, row = next(waiting, ("", 0, {}))
        if write == "insert":
            await table.insert(row)
        elif write and table.expected:
            chosen = sorted(table.expected)[number % len(table.expected)]
            await (table.delete(chosen) if write == "delete" else table.update(chosen))
            stable -= {chosen} if write == "delete" else set()
    else:
        raise AssertionError("The list does not end.")
    assert len(seen) == len(set(seen))
    expected = [
        row for row in in_order(table.expected, sort) if row in stable and passes(table.expected[row], filtered)
    ]
    assert [row for row in seen if row in stable] == expected
