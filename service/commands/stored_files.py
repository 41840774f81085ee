"""The files that the database names: which of them the storage must have, and what belongs to them."""

import time
from collections.abc import Collection
from typing import Any, NamedTuple

import asyncpg

from service.database.engine import DB
from service.media.queries import stored_names
from service.media.storage import STORAGE

_FILES = (
    "SELECT name, width IS NOT NULL AS is_picture, EXISTS (SELECT FROM card_assets WHERE file = files.name) AS is_asset"
    " FROM files"
)
NAMED_FILES = f"{_FILES} ORDER BY name"
_PAGE = f"{_FILES} WHERE name > $1 ORDER BY name LIMIT 200"
_OWNERS = """
    SELECT name, string_agg(DISTINCT owner, ', ' ORDER BY owner) AS owners FROM (
        SELECT portrait, 'portrait of character ' || id FROM characters WHERE portrait = ANY($1::text[])
        UNION ALL SELECT avatar, 'avatar of user ' || id FROM users WHERE avatar = ANY($1::text[])
        UNION ALL SELECT replaced ->> 'portrait', 'earlier portrait of character ' || character FROM revisions
            WHERE replaced ->> 'portrait' = ANY($1::text[])
        UNION ALL SELECT card_assets.file, 'card of character ' || character
            FROM card_assets JOIN cards ON cards.id = card WHERE card_assets.file = ANY($1::text[])
    ) AS found (name, owner) GROUP BY name
"""


def expected_names(row: Any) -> dict[str, bool]:
    """The names under which the storage may have the file, and whether it must have them. A picture may be stored as it
    was uploaded, too: as the portrait of an imported card, and as a file of a card."""
    upload, *sizes = stored_names(row["name"])
    return {upload: row["is_asset"] or not row["is_picture"]} | dict.fromkeys(sizes, row["is_picture"])


async def owners_of(connection: asyncpg.Connection, names: Collection[str]) -> dict[str, str]:
    """By the name of a stored file, what refers to it."""
    rows = await connection.fetch(_OWNERS, sorted({name.partition("-")[0] for name in names}))
    owners = {row["name"]: row["owners"] for row in rows}
    return {name: owners.get(name.partition("-")[0], "nothing refers to it") for name in names}


class Missing(NamedTuple):
    examined: int
    is_complete: bool  # all files were examined in the time
    names: list[str]


async def find_missing(seconds: float) -> Missing:
    """Looks for the files that the database names, by name, until the time is over."""
    end, after, examined, missing = time.monotonic() + seconds, "", 0, list[str]()
    while time.monotonic() < end:
        async with DB.connection() as connection:
            rows = await connection.fetch(_PAGE, after)
        if not rows:
            return Missing(examined, True, missing)
        names = [name for row in rows for name, must_be in expected_names(row).items() if must_be]
        missing += await STORAGE.lacks(names)
        examined, after = examined + len(names), rows[-1]["name"]
    return Missing(examined, False, missing)
