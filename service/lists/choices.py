"""Filters by columns with few values: a Filter for each value, and for each set of values that ``.in`` takes.

The values are literals, because PostgreSQL knows how common each is. With a parameter, all would share one plan.
"""

from itertools import chain, combinations
from typing import Any, get_args

from piccolo.columns.combination import WhereRaw

from service.lists.statements import Filter
from service.schemas import Visibility

_MAY_BE_HIDDEN = frozenset({"mine", "owner", "owner_id"})  # the scopes with rows that are not public


def each_of(column: Any, kind: Any, **traits: Any) -> dict[str, Filter]:
    """A Filter for each value of the Literal ``kind``. ``traits`` are those of a Filter."""
    return {value: Filter(WhereRaw(f"{{}} = '{value}'", column), **traits) for value in get_args(kind)}


def any_of(column: Any, kind: Any, **traits: Any) -> dict[tuple[str, ...], Filter]:
    """A Filter for each set of values of the Literal ``kind``. The sets are sorted tuples."""
    values = sorted(get_args(kind))
    sets = chain.from_iterable(combinations(values, size + 1) for size in range(len(values)))
    return {chosen: Filter(WhereRaw(f"{{}} IN ({_listed(chosen)})", column), **traits) for chosen in sets}


def any_visibility(column: Any, **traits: Any) -> dict[tuple[str, ...], Filter]:
    """Like ``any_of``. Scopes of public rows are not read for sets without "public": PostgreSQL would test each row."""
    return {
        chosen: each if "public" in chosen else each._replace(scopes=_MAY_BE_HIDDEN)
        for chosen, each in any_of(column, Visibility, **traits).items()
    }


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)
