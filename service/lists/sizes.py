"""The size of a page in bytes: a page ends early, before its items exceed MAX_PAGE_SIZE together."""

from collections.abc import Iterable, Sequence
from typing import Any

from piccolo.querystring import QueryString

MAX_PAGE_SIZE = 4 * 1024 * 1024  # bytes of items
_MOST_BYTES = 4  # of a character in UTF-8


def within_page(rows: QueryString, columns: Iterable[str]) -> QueryString:
    """These columns of ``rows``, in their order, without the rows behind the first one that exceeds the page.

    PostgreSQL does not send those. The second row always comes, because a large first one would look like the last of
    the list without it.
    """
    names = ", ".join(f'"{name}"' for name in columns)
    before = "sum(octet_length(item::text)) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    sized = f"SELECT *, {before} AS before, row_number() OVER () AS place FROM ({{}}) AS rows"  # noqa: S608 (our own names)
    condition = f"before IS NULL OR before <= {MAX_PAGE_SIZE} OR place = 2"
    return QueryString(f"SELECT {names} FROM ({sized}) AS sized WHERE {condition}", rows)  # noqa: S608 (our own names)


def is_exceeded(rows: Sequence[Any]) -> bool:
    """Whether several rows exceed the page together."""
    if len(rows) < 2 or sum([len(row["item"]) for row in rows]) * _MOST_BYTES <= MAX_PAGE_SIZE:
        return False
    return sum(len(row["item"].encode()) for row in rows) > MAX_PAGE_SIZE


def shown(rows: Sequence[Any], limit: int) -> Sequence[Any]:
    """The rows of the page: at least one, so that each page makes progress."""
    first = rows[:limit]
    return first[:-1] if is_exceeded(first) else first
