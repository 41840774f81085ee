"""Synthetic data, to try the service with many rows: users, their public characters, and relationships between those.

For a given number of users, each character depends only on its number. So the data can be inserted in steps.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
from piccolo.table import Table

from service.characters.tables import Character
from service.database.engine import DB
from service.relationships.tables import Relationship
from service.relationships.types import CUSTOM, TYPES
from service.templates.rules.validator import Rules
from service.users.tables import User

BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)  # before any other row, so that ids show how much was inserted
MOST = 10_000_000
EVERY = timedelta(seconds=10)  # between the creation times of two characters
MINUTE = timedelta(minutes=1)
CAST = 12  # consecutive characters of one owner; every tenth cast has relationships
VARIANTS = 200  # sets of attributes made for each template
MANY = 5_000  # rows from which rebuilding the indexes and checking foreign keys at the end is faster

WORDS = msgspec.json.decode(
    (Path(__file__).parent / "seeds/synthetic_data.json").read_bytes(), type=dict[str, list[str]]
)
FIRST, LAST, WHO, WHERE, SECRET, TAGS = (WORDS[name] for name in ("first", "last", "who", "where", "secret", "tags"))
STYLES = (None, "realistic", "cartoon", "anime", "fantasy", "cyberpunk", "vintage", "minimalist")
FORMATS = {"date": "1987-05-{0:02}", "date-time": "2024-05-{0:02}T18:30:00Z", "time": "18:{0:02}:00Z"}
KINDS = [kind for kind, swapped in TYPES.values() if not swapped and kind is not CUSTOM]

_FIRST, _BETWEEN = int(BEGINNING.timestamp()) * 1000, EVERY // timedelta(milliseconds=1)  # of ids, in milliseconds

_CHARACTER = (
    "id", "owner", "name", "description", "style", "tags", "visibility", "attributes", "extensions", "template",
    "template_version", "version", "created_at", "updated_at", "written_in",
)  # fmt: skip
_RELATIONSHIP = (
    "id", "source", "target", "type", "inverse_type", "label", "inverse_label", "description", "source_attitude",
    "version", "created_at", "updated_at",
)  # fmt: skip
_USER = ("id", "username", "status", "display_name", "bio", "links", "version", "created_at", "updated_at")


class Ruled(NamedTuple):
    """A template version, and valid attributes for it, as JSON."""

    template: UUID
    number: int
    attributes: list[str]


async def insert_synthetic_data(characters: int, users: int) -> int:
    """Inserts users and characters until there are ``users`` and ``characters`` of them. Returns the number of inserted
    characters."""
    async with DB.transaction() as transaction:
        connection = transaction.connection
        existing = await _count(connection, User)
        rows = (_user(number) for number in range(existing, users))
        await connection.copy_records_to_table(User._meta.tablename, records=rows, columns=_USER)
        existing = await _count(connection, Character)
        ruled = [_ruled(version) for version in await _platforms_versions(connection)]
        async with _indexes_built_at_the_end(connection, characters - existing, existing):
            transaction_number = int(await connection.fetchval("SELECT pg_current_xact_id()::text"))
            made = (_character(number, users, ruled, transaction_number) for number in range(existing, characters))
            await connection.copy_records_to_table(Character._meta.tablename, records=made, columns=_CHARACTER)
            related_numbers = (number for number in range(existing, characters) if number // CAST % 10 == 0)
            related = (row for number in related_numbers for row in _relationships(number))
            await connection.copy_records_to_table(Relationship._meta.tablename, records=related, columns=_RELATIONSHIP)
    for table in (User, Character, Relationship):
        await DB.run_ddl(f"ANALYZE {table._meta.tablename}")
    return max(0, characters - existing)


async def _count(connection: asyncpg.Connection, table: type[Table]) -> int:
    last = await connection.fetchval(
        f"SELECT id FROM {table._meta.tablename} WHERE id BETWEEN $1 AND $2 ORDER BY id DESC LIMIT 1",  # noqa: S608 (our own names, never a client's)
        _id(0),
        _id(MOST),
    )
    return 0 if last is None else (last.int & (1 << 62) - 1) + 1


@asynccontextmanager
async def _indexes_built_at_the_end(connection: asyncpg.Connection, rows: int, existing: int) -> AsyncIterator[None]:
    """Drops the indexes and foreign keys, and creates them again after the block. For many rows this takes a third of
    the time. In the transaction, other connections wait for the tables, and a failure changes nothing."""
    if rows < max(MANY, existing / 2):
        yield
        return
    keys = await connection.fetch(
        "SELECT conrelid::regclass::text AS of, quote_ident(conname) AS name, pg_get_constraintdef(oid) AS definition"
        " FROM pg_constraint WHERE contype = 'f' AND conrelid IN ('characters'::regclass, 'relationships'::regclass)"
        # a key whose columns stay NULL needs no check
        " AND conkey && ARRAY(SELECT attnum FROM pg_attribute WHERE attrelid = conrelid AND attname = ANY($1::text[]))",
        [*_CHARACTER, *_RELATIONSHIP],
    )
    indexes = await connection.fetch(
        "SELECT quote_ident(indexname) AS name, indexdef AS definition FROM pg_indexes"
        " WHERE schemaname = current_schema AND tablename IN ('characters', 'relationships')"
        " AND indexname NOT IN (SELECT conname FROM pg_constraint)"
    )
    await connection.execute("ALTER TABLE characters DISABLE TRIGGER number_transaction")  # the rows contain the number
    for key in keys:
        await connection.execute(f"ALTER TABLE {key['of']} DROP CONSTRAINT {key['name']}")
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    yield
    await connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
    for index in indexes:
        await connection.execute(index["definition"])
    for key in keys:
        await connection.execute(f"ALTER TABLE {key['of']} ADD CONSTRAINT {key['name']} {key['definition']}")
    await connection.execute("ALTER TABLE characters ENABLE TRIGGER number_transaction")


async def _platforms_versions(connection: asyncpg.Connection) -> Sequence[Any]:
    found: Sequence[Any] = await connection.fetch(
        "SELECT template, number, attribute_schema FROM template_versions JOIN templates ON templates.id = template"
        " WHERE owner IS NULL AND visibility = 'public' AND number = newest_version ORDER BY template"
    )
    return found


def _ruled(version: Any) -> Ruled:
    schema = msgspec.json.decode(version["attribute_schema"])
    rules = Rules(schema)
    sets = [rules.complete(_attributes(schema, variant)) for variant in range(VARIANTS)]
    assert not any(rules.violations(attributes) for attributes in sets)  # noqa: S101 (a mistake in _value)
    return Ruled(version["template"], version["number"], [msgspec.json.encode(each).decode() for each in sets])


def _attributes(schema: Any, variant: int) -> dict[str, Any]:
    """Values generated from the schema; the default where none can be generated."""
    choice = _Choice(variant)
    values = {name: _value(rule, choice) for name, rule in schema.get("properties", {}).items()}
    return {name: value for name, value in values.items() if value is not None}


def _value(rule: Any, choice: "_Choice") -> Any:
    if "enum" in rule:
        return choice.of(rule["enum"])
    match rule.get("type"):
        case "boolean":
            return choice.below(2) == 1
        case "integer" if "minimum" in rule and "maximum" in rule:
            step = rule.get("multipleOf", 1)
            first = -(-rule["minimum"] // step)
            return step * (first + choice.below(rule["maximum"] // step - first + 1))
        case "string" if "pattern" not in rule and "format" not in rule:
            text = f"{choice.of(WHO)} {choice.of(WHERE)}"
            return text if len(text) <= rule.get("maxLength", 0) else rule.get("default")
        case "string" if rule.get("format") in FORMATS:
            return FORMATS[rule["format"]].format(1 + choice.below(28))
        case "object":
            return _attributes(rule, choice.below(VARIANTS))
    return rule.get("default")


class _Choice:
    """Pseudo-random choices derived from a number, faster than seeding a generator for each row."""

    __slots__ = ("left",)

    def __init__(self, number: int) -> None:
        mixed = (number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)
        self.left = (mixed ^ mixed >> 67) * 0xD6E8FEB86659FD93A2F7D3A9B1C5E6B7 % (1 << 128) >> 8

    def below(self, limit: int) -> int:
        self.left, choice = divmod(self.left, limit)
        return choice

    def of(self, values: Sequence[Any]) -> Any:
        return values[self.below(len(values))]


def _id(number: int) -> UUID:
    """A UUIDv7 of the creation time of the row, with its number in place of the random bits."""
    return UUID(int=(_FIRST + number * _BETWEEN) << 80 | 0x7 << 76 | 0b10 << 62 | number)


@lru_cache(maxsize=1)
def _owner(cast: int, users: int) -> UUID:
    return _id(_Choice(cast).below(users))


def _user(number: int) -> tuple[Any, ...]:
    choice = _Choice(number)
    name = f"{choice.of(FIRST)} {choice.of(LAST)}"
    username = f"{name.split()[1].lower()}-{number}"
    return _id(number), username, "active", name, f"{choice.of(WHO)}.", "[]", 1, BEGINNING, BEGINNING


def _character(number: int, users: int, ruled: Sequence[Ruled], written_in: int) -> tuple[Any, ...]:
    choice = _Choice(number)
    rules = choice.of(ruled)
    created_at = BEGINNING + number * EVERY
    return (
        _id(number),
        _owner(number // CAST, users),
        f"{choice.of(FIRST)} {choice.of(LAST)}",
        f"{choice.of(WHO)} {choice.of(WHERE)} and {choice.of(SECRET)}",
        choice.of(STYLES),
        sorted({choice.of(TAGS), choice.of(TAGS), choice.of(TAGS)}),
        "public",
        choice.of(rules.attributes),
        "{}",
        rules.template,
        rules.number,
        1,
        created_at,
        created_at + choice.below(100_000) * MINUTE,
        written_in,
    )


def _relationships(number: int) -> Iterator[tuple[Any, ...]]:
    """To the previous character of the cast and to an earlier one, so that the graph is not just a chain."""
    if not (place := number % CAST):
        return
    choice = _Choice(number)
    for which, back in enumerate(sorted({1, place - place // 3})):
        kind = choice.of(KINDS)
        ends = (_id(number), _id(number - back))
        source, target = sorted(ends) if kind.symmetric else ends
        made = BEGINNING + number * EVERY
        yield (
            _id(2 * number + which), source, target, kind.name, kind.inverse, "", "", choice.of(SECRET).capitalize(),
            choice.below(201) - 100, 1, made, made,
        )  # fmt: skip
