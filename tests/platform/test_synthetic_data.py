"""``piccolo service seed --characters=…``: inserts synthetic data."""

from typing import Any

import httpx
import msgspec
import pytest

from service.characters.tables import Character
from service.commands import synthetic_data
from service.commands.seed import insert_seeds, seed
from service.commands.synthetic_data import insert_synthetic_data
from service.database.engine import DB
from service.relationships.tables import Relationship
from service.templates.rules.validator import Rules
from service.users.tables import User

TABLES = """
SELECT indexdef FROM pg_indexes WHERE tablename IN ('characters', 'relationships')
UNION ALL SELECT conname || pg_get_constraintdef(oid) || convalidated FROM pg_constraint
UNION ALL SELECT tgname || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal
ORDER BY 1
"""
RULED = """
SELECT characters.id, attributes, attribute_schema FROM characters
JOIN template_versions ON (characters.template, template_version) = (template_versions.template, number)
"""
BETWEEN_OWNERS = """
SELECT relationships.id FROM relationships
JOIN characters AS one ON one.id = source JOIN characters AS other ON other.id = target WHERE one.owner <> other.owner
"""


async def rows(query: str) -> list[Any]:
    async with DB.connection() as connection:
        found: list[Any] = await connection.fetch(query)
        return found


@pytest.fixture
async def seeds(app: Any) -> None:
    await insert_seeds()


async def test_synthetic_attributes_are_valid_for_their_templates(seeds: None, stranger: httpx.AsyncClient) -> None:
    demo = await Character.count()
    assert await insert_synthetic_data(300, 20) == 300
    assert (await stranger.get("/v1/characters?count=exact")).json()["total"] == demo + 300
    ruled = await rows(RULED)
    assert len(ruled) >= 300
    for row in ruled:
        assert not Rules(msgspec.json.decode(row["attribute_schema"])).violations(
            msgspec.json.decode(row["attributes"])
        )
    assert len({row["attributes"] for row in ruled}) > 200


async def test_synthetic_data_can_be_inserted_in_steps(seeds: None) -> None:
    await insert_synthetic_data(120, 20)
    before = await rows("SELECT * FROM characters ORDER BY id")
    assert await insert_synthetic_data(120, 20) == 0
    assert await insert_synthetic_data(240, 20) == 120
    await rows("DELETE FROM relationships")
    await rows("DELETE FROM characters WHERE id < '01920000-0000-7000-8000-000000000000'")
    assert await insert_synthetic_data(120, 20) == 120
    after = await rows("SELECT * FROM characters ORDER BY id")
    assert [(row["id"], row["owner"], row["attributes"]) for row in after] == [
        (row["id"], row["owner"], row["attributes"]) for row in before
    ]


async def test_related_characters_have_one_owner(seeds: None, stranger: httpx.AsyncClient) -> None:
    demo = await Relationship.count()
    await insert_synthetic_data(12, 20)
    assert await Relationship.count() > demo + 11
    assert not [row for row in await rows(BETWEEN_OWNERS) if str(row["id"]).startswith("016f")]
    first = synthetic_data._id(0)
    graph = (await stranger.get(f"/v1/characters/{first}/graph?depth=4")).json()
    assert len(graph["nodes"]) > 6


async def test_a_bulk_insert_restores_indexes_and_constraints(seeds: None, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await rows(TABLES)
    monkeypatch.setattr(synthetic_data, "MANY", 10)
    await insert_synthetic_data(300, 20)
    assert await rows(TABLES) == before
    assert await Character.exists().where(Character.id == synthetic_data._id(299), Character.written_in > 0)


@pytest.mark.parametrize(("characters", "users"), [(-1, 5), (5, 0), (5, -1), (100_000_000, 5)])
async def test_impossible_numbers_are_refused(seeds: None, characters: int, users: int) -> None:
    with pytest.raises(SystemExit, match="Synthetic data has"):
        await seed(characters, users)
    assert not await User.exists().where(User.username.like("%-1"))
