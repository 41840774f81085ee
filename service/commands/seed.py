"""``piccolo service seed``: the platform's own templates, and demo members with their characters.

Each row has a fixed id and is inserted only when missing, so a second run keeps an operator's edits.
"""

import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from piccolo.table import Table

from service.characters.tables import Character
from service.commands.synthetic_data import MOST, insert_synthetic_data
from service.database.engine import DB
from service.database.prepared import NOW
from service.relationships.tables import Relationship
from service.relationships.types import TYPES
from service.settings import settings
from service.templates.rules.validator import Rules
from service.templates.tables import Template, TemplateVersion
from service.users.tables import User

_SEEDS = Path(__file__).parent / "seeds"


async def seed(characters: int = 0, users: int = 1_000, templates: bool = False) -> None:
    """Insert the platform's templates and demo characters where they are missing. In production, only with --templates.

    :param templates: Insert the platform's templates alone.
    :param characters: How many characters of synthetic data to have, to try the service with many rows.
    :param users: How many users own these characters.

    """
    if templates and characters:
        raise SystemExit("--templates inserts no characters: leave --characters out.")
    if templates:
        count = await insert_templates()
        print(f"Templates: {count} inserted." if count else "Templates: nothing to insert.")
        return
    if settings.in_production:
        raise SystemExit(
            "Seeds are for development: the demo members' characters are public."
            " `piccolo service seed --templates` inserts the platform's templates alone."
        )
    inserted = await insert_seeds()
    print(f"Seeds: {inserted} rows inserted." if inserted else "Seeds: nothing to insert.")
    if characters:
        _check_synthetic_data(characters, users)
        began = time.perf_counter()
        inserted = await insert_synthetic_data(characters, users)
        rate = inserted / (time.perf_counter() - began)
        print(f"Synthetic data: {inserted:,} characters inserted, {rate:,.0f} a second.")


def _check_synthetic_data(characters: int, users: int) -> None:
    if not (0 < characters <= MOST and 0 < users <= MOST):
        raise SystemExit(f"Synthetic data has 1 to {MOST:,} characters and 1 to {MOST:,} users.")


async def were_inserted() -> bool:
    """Whether ``insert_seeds`` has run: quicker than to run it at each start. Some rows may be missing again."""
    return await Relationship.exists().where(Relationship.id == UUID(_read("relationships")[-1]["id"]))


async def insert_seeds() -> int:
    """Returns how many rows were missing and are inserted now."""
    async with DB.transaction():
        return sum(
            [
                await _insert_missing(User, map(_member, _read("members"))),
                2 * await insert_templates(),  # each with its version
                await _insert_missing(Character, map(_character, _read("characters"))),
                await _insert_missing(Relationship, map(_relationship, await _relationships())),
            ]
        )


async def insert_templates() -> int:
    """Returns how many of the platform's templates were missing and are inserted now, each with its version."""
    async with DB.transaction():
        count = await _insert_missing(Template, map(_template, _read("templates")))
        await _insert_missing(TemplateVersion, map(_version, _read("templates")))
    return count


@cache
def _read(name: str) -> Any:
    return msgspec.json.decode((_SEEDS / f"{name}.json").read_bytes())


async def _relationships() -> list[dict[str, Any]]:
    """The relationships whose characters were not purged: of a purged one, an empty row stays for 30 days."""
    ids = [UUID(seed["id"]) for seed in _read("characters")]
    purged: Any = Character.select(Character.id).where(Character.id.is_in(ids), Character.ended.eq(True))
    ends = {str(row["id"]) for row in await purged}
    return [seed for seed in _read("relationships") if not ends & {seed["source"], seed["target"]}]


async def _insert_missing(table: type[Table], rows: Iterable[Table]) -> int:
    if not (rows := list(rows)):
        return 0
    ids = await table.insert(*rows).on_conflict(action="DO NOTHING").returning(table._meta.primary_key)
    return len(ids)


def _member(seed: dict[str, Any]) -> User:
    return User(
        id=UUID(seed["id"]),
        username=seed["username"],
        display_name=seed["display_name"],
        bio=seed["bio"],
        links=_json(seed["links"]),
    )  # no e-mail address and no password: nobody can sign in


def _template(seed: dict[str, Any]) -> Template:
    return Template(
        id=UUID(seed["id"]),
        name=seed["name"],
        description=seed["description"],
        style=seed["style"],
        tags=seed["tags"],
        visibility="public",
    )


def _version(seed: dict[str, Any]) -> TemplateVersion:
    return TemplateVersion(
        id=UUID(seed["id"]),
        template=UUID(seed["id"]),
        number=1,
        prompt=seed["prompt"],
        attribute_schema=_json(seed["attribute_schema"]),
        published_at=NOW,
    )


def _character(seed: dict[str, Any]) -> Character:
    schemas = {template["id"]: template["attribute_schema"] for template in _read("templates")}
    attributes = seed["attributes"]
    if seed["template"]:
        attributes = Rules(schemas[seed["template"]]).complete(attributes)
    return Character(
        id=UUID(seed["id"]),
        owner=UUID(seed["owner"]),
        name=seed["name"],
        description=seed["description"],
        style=seed["style"],
        tags=seed["tags"],
        visibility="public",
        attributes=_json(attributes),
        extensions=_json(seed["extensions"]),
        template=UUID(seed["template"]) if seed["template"] else None,
        template_version=1 if seed["template"] else None,
    )


def _relationship(seed: dict[str, Any]) -> Relationship:
    kind, _ = TYPES[seed["type"]]
    return Relationship(
        id=UUID(seed["id"]),
        source=UUID(seed["source"]),
        target=UUID(seed["target"]),
        type=kind.name,
        inverse_type=kind.inverse,
        description=seed["description"],
        source_attitude=seed["source_attitude"],
        target_attitude=seed["target_attitude"],
    )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
