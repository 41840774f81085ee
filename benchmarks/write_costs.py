"""Measures what each index, trigger and foreign key of the characters adds to an insert and to an update of a row.

Each is left out in turn, in a transaction that is rolled back. Its figure is the share of the time with everything that
its absence saves. Time is the processor time of PostgreSQL's backend, which other processes change little. Rounds are
interleaved, and the fastest round of each counts, because noise only adds time. Needs Linux.
"""

import argparse
import asyncio
from pathlib import Path
from typing import NamedTuple

import asyncpg

from benchmarks.dataset import DIRECTORY, database
from benchmarks.tables import markdown, where

ROWS = 1_000  # of one statement
ALL = "**everything**"

_INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
    WHERE indrelid = 'characters'::regclass AND NOT indisprimary
"""
_TRIGGERS = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'characters'::regclass AND NOT tgisinternal ORDER BY tgname"
_FOREIGN_KEYS = "SELECT conname FROM pg_constraint WHERE conrelid = 'characters'::regclass AND contype = 'f' ORDER BY 1"
_COLUMNS = """
    SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
    WHERE attrelid = 'characters'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
      AND attname <> 'id'
"""


class Part(NamedTuple):
    name: str
    leave_out: str  # a statement


class Times(NamedTuple):
    """Milliseconds of a processor for ROWS rows."""

    insert: float
    rename: float  # an update of an indexed column
    touch: float  # an update of a column without an index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--data-dir", type=Path, default=DIRECTORY)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with database(given.characters, given.users, given.data_dir, durable=False) as dsn:
        times = asyncio.run(_measure(dsn, given.rounds))
    print(f"{where()}; {given.characters:,} characters; {ROWS:,} rows, microseconds a row, and shares of it.\n")
    print(_table(times))


async def _measure(dsn: str, rounds: int) -> dict[str, Times]:
    connection = await asyncpg.connect(dsn)
    try:
        parts = [Part(ALL, ""), *await _parts(connection)]
        found: dict[str, list[Times]] = {part.name: [] for part in parts}
        for _ in range(rounds):
            for part in parts:
                found[part.name].append(await _times(connection, part))
        return {name: Times(*map(min, zip(*times, strict=True))) for name, times in found.items()}
    finally:
        await connection.close()


async def _parts(connection: asyncpg.Connection) -> list[Part]:
    indexes = [name for name, _ in await connection.fetch(_INDEXES)]
    triggers = [name for (name,) in await connection.fetch(_TRIGGERS)]
    keys = [name for (name,) in await connection.fetch(_FOREIGN_KEYS)]
    return [
        *(Part(f"index {name}", f"DROP INDEX {name}") for name in indexes),
        *(Part(f"trigger {name}", f"ALTER TABLE characters DISABLE TRIGGER {name}") for name in triggers),
        Part("all foreign keys", "; ".join(f"ALTER TABLE characters DROP CONSTRAINT {name}" for name in keys)),
        Part("all GIN indexes", await _drops(connection, "USING gin")),
        Part("all indexes", await _drops(connection, "")),
    ]


async def _drops(connection: asyncpg.Connection, kind: str) -> str:
    return "; ".join(f"DROP INDEX {name}" for name, text in await connection.fetch(_INDEXES) if kind in text)


async def _times(connection: asyncpg.Connection, part: Part) -> Times:
    columns = await connection.fetchval(_COLUMNS)
    sample = f"SELECT {columns} FROM characters WHERE NOT ended ORDER BY id LIMIT {ROWS}"
    made = "id IN (SELECT id FROM made)"
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("SET LOCAL statement_timeout = 0")
        if part.leave_out:
            await connection.execute(part.leave_out)
        await connection.execute(
            f"CREATE TEMPORARY TABLE made ON COMMIT DROP AS SELECT gen_random_uuid() AS id, * FROM ({sample}) AS s"
        )
        insert = await _milliseconds(
            connection, f"INSERT INTO characters (id, {columns}) SELECT id, {columns} FROM made"
        )
        rename = await _milliseconds(connection, f"UPDATE characters SET name = name || '!' WHERE {made}")
        touch = await _milliseconds(connection, f"UPDATE characters SET prompt = 'x' WHERE {made}")
        return Times(insert, rename, touch)
    finally:
        await transaction.rollback()


async def _milliseconds(connection: asyncpg.Connection, statement: str) -> float:
    """Of the statement with its triggers, also those of foreign keys."""
    clock = Path(f"/proc/{connection.get_server_pid()}/schedstat")  # its first figure: nanoseconds on a processor
    before = int(clock.read_text().split()[0])
    await connection.execute(statement)
    return (int(clock.read_text().split()[0]) - before) / 1_000_000


def _table(times: dict[str, Times]) -> str:
    whole = times[ALL]
    first = [ALL, *(f"**{value * 1_000 / ROWS:.0f} µs**" for value in whole)]
    rows = [
        [name, *(f"{1 - without / all_:.0%}" for without, all_ in zip(each, whole, strict=True))]
        for name, each in times.items()
        if name != ALL
    ]
    return markdown(["left out", "insert", "update of the name", "update of the prompt"], [first, *rows])


if __name__ == "__main__":
    main()
