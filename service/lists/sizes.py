"""The size of a page in bytes: a page ends early, before its items exceed MAX_PAGE_SIZE together."""

from collections.abc import Sequence
from typing import Any

from piccolo.querystring import QueryString

MAX_PAGE_SIZE = 4 * 1024 * 1024  # bytes of items


def with_sizes(rows: QueryString) -> QueryString:
    """``rows`` in their order, with the column ``before``: the bytes of the items before this one.

    Leaves out the rows behind the first one that exceeds the page: PostgreSQL does not send them. The second row always
    comes, because a large first one would look like the last of the list without it.
    """
    before = "coalesce(sum(octet_length(item::text)) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)"
    template = (
        f"SELECT * FROM (SELECT *, {before} AS before, row_number() OVER () AS place FROM ({{}}) AS rows) AS sized"  # noqa: S608 (our own names)
    )
    return QueryString(f"{template} WHERE before <= {MAX_PAGE_SIZE} OR place <= 2", rows)


def is_exceeded(rows: Sequence[Any]) -> bool:
    """Whether the last of several rows exceeds the page."""
    return len(rows) > 1 and rows[-1]["before"] + len(rows[-1]["item"].encode()) > MAX_PAGE_SIZE


def shown(rows: Sequence[Any], limit: int) -> Sequence[Any]:
    """The rows of the page: at least one, so that each page makes progress."""
    first = rows[:limit]
    return first[:-1] if is_exceeded(first) else first
