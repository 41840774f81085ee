"""The size of a page in bytes: a page ends early, before its items exceed MAX_PAGE_SIZE together."""

from collections.abc import Iterable, Sequence
from typing import Any

from piccolo.querystring import QueryString

MAX_PAGE_SIZE = 4 * 1024 * 1024  # bytes of items
_MOST_BYTES = 4  # of a character in UTF-8


def within_page(rows: QueryString, columns: Iterable[str], most: QueryString | None = None) -> QueryString:
    """These columns of ``rows``, in their order, without the rows behind the first one that exceeds the page, which has
    ``most`` bytes, by default MAX_PAGE_SIZE.

    PostgreSQL does not send those. The second row always comes, because a large first one would look like the last of
    the list without it.
    """
    names = ", ".join(f'"{name}"' for name in columns)
    before = "sum(octet_length(item::text)) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    sized = f"SELECT *, {before} AS before, row_number() OVER () AS place FROM ({{}}) AS rows"  # noqa: S608 (our own names)
    within = QueryString("before IS NULL OR before <= {} OR place = 2", most or QueryString(str(MAX_PAGE_SIZE)))
    return QueryString(f"SELECT {names} FROM ({sized}) AS sized WHERE {{}}", rows, within)  # noqa: S608 (our own names)


def is_exceeded(rows: Sequence[Any], most: int = MAX_PAGE_SIZE) -> bool:
    """Whether several rows exceed the page together."""
    if len(rows) < 2 or sum([len(row["item"]) for row in rows]) * _MOST_BYTES <= most:
        return False
    return sum(len(row["item"].encode()) for row in rows) > most


def shown(rows: Sequence[Any], limit: int, most: int = MAX_PAGE_SIZE) -> Sequence[Any]:
    """The rows of the page: at least one, so that each page makes progress."""
    first = rows[:limit]
    return first[:-1] if is_exceeded(first, most) else first
