"""``piccolo service seed``: the platform's templates, alone or with demo characters."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import pytest

from service.characters.purging import clear, leave_empty, mark_purged
from service.characters.tables import Character
from service.commands import seed as command
from service.relationships.tables import Relationship
from service.templates.tables import Template, TemplateVersion
from service.users.tables import User

Run = Callable[..., Awaitable[str]]


@pytest.fixture
def run(app: Any, capsys: pytest.CaptureFixture[str]) -> Run:
    async def run(**given: Any) -> str:
        await command.seed(**given)
        return capsys.readouterr().out

    return run


@pytest.fixture
def in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "settings", msgspec.structs.replace(command.settings, environment="production"))


async def test_production_has_the_templates_of_the_platform(
    in_production: None, run: Run, stranger: httpx.AsyncClient
) -> None:
    assert await run(templates=True) == "Templates: 14 inserted.\n"
    listed = (await stranger.get("/v1/templates?limit=100")).json()["items"]
    assert len(listed) == 14
    assert await User.count() == 0
    before = await Template.select(), await TemplateVersion.select()
    assert await run(templates=True) == "Templates: nothing to insert.\n"
    assert (await Template.select(), await TemplateVersion.select()) == before


async def test_an_operators_edits_are_kept(run: Run) -> None:
    await run(templates=True)
    first: Any = await Template.select().order_by(Template.id).first()
    await Template.update({Template.name: "Edited"}).where(Template.id == first["id"])
    await TemplateVersion.delete().where(TemplateVersion.template != first["id"])
    await Template.delete().where(Template.id != first["id"])
    assert await run(templates=True) == "Templates: 13 inserted.\n"
    assert await Template.exists().where(Template.id == first["id"], Template.name == "Edited")


async def test_demo_characters_follow(run: Run, stranger: httpx.AsyncClient) -> None:
    await run(templates=True)
    assert "rows inserted" in await run()
    assert (await stranger.get("/v1/characters")).json()["items"]
    assert await run() == "Seeds: nothing to insert.\n"


async def test_demo_rows_that_are_missing_are_inserted_again(run: Run) -> None:
    await run()
    tables = (User, Template, TemplateVersion, Character, Relationship)
    before = [await table.count() for table in tables]
    mira: Any = await Character.select().where(Character.template.is_not_null()).first()
    await Character.delete().where(Character.id == mira["id"])
    lost = before[4] - await Relationship.count()
    await User.update({User.bio: "Edited."}, force=True)
    assert await run() == f"Seeds: {1 + lost} rows inserted.\n"
    assert [await table.count() for table in tables] == before
    assert not await User.exists().where(User.bio != "Edited.")
    await Character.update({Character.name: "Edited"}).where(Character.id == mira["id"])
    assert await run() == "Seeds: nothing to insert.\n"


async def test_a_demo_character_that_was_purged_gets_no_relationship(run: Run) -> None:
    """Its empty row stays for the feed of changes for 30 days."""
    await run()
    row: Any = await Relationship.select().first()
    await Character.update({Character.deleted_at: datetime.now(UTC)}).where(Character.id == row["source"])
    await mark_purged(row["source"])
    await clear([row["source"]])
    await leave_empty(row["source"])
    relationships = await Relationship.count()
    assert await run() == "Seeds: nothing to insert.\n"
    assert await Relationship.count() == relationships


async def test_production_has_no_demo_characters(in_production: None, run: Run) -> None:
    with pytest.raises(SystemExit, match="Seeds are for development"):
        await run()
    with pytest.raises(SystemExit, match="leave --characters out"):
        await run(templates=True, characters=5)
    assert await User.count() == await Template.count() == 0
