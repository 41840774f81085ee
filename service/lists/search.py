"""Shared by the lists of characters and templates: the search by words, parts of words and similar names, the order by
name, and the filters by id, name, tags and times. Their tables have the columns GENERATED."""

from functools import cache
from typing import Any

import msgspec
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.database.prepared import Param, sql
from service.lists.statements import Filter, SortKey
from service.parameters import ListQuery
from service.text.folding import tag_keys

GENERATED = ("search", "tag_keys", "name_key")  # columns that PostgreSQL generates and Piccolo does not know
MAX_SIMILAR = 100  # similar names that are looked up in advance; with more, each row's name is compared

_QUERY = QueryString("search_query({})", Param("q"))
_SPELT = QueryString("spelt(plain({}))", Param("q"))  # in letters that pg_trgm knows in any locale, for many scripts
# No excluded word and no phrase, and letters that pg_trgm knows: without any, it would read all names
_TOLERANT = QueryString("{} !~ '(^| )[-\"]' AND cardinality(show_trgm({})) > 0", Param("q"), _SPELT)
_TOLERANTLY = QueryString("CASE WHEN {} THEN {} END", _TOLERANT, _SPELT)
# Values that PostgreSQL does not know when it plans: it would plan a search for each word, for 2 to 3 ms
_WORDS = QueryString("(SELECT words FROM search_words)")
_SPELLING = QueryString("(SELECT spelling FROM search_words)")


def searched(table: Any, *living: Any) -> tuple[Filter, SortKey]:
    """The filter ``q``, and the order of its hits. ``living`` are the conditions of the indexes."""
    search, name_key = _generated(table, "search"), _generated(table, "name_key")
    spelt_name = QueryString("spelt({})", name_key)
    similar, known_similar = _similar(_TOLERANTLY, spelt_name), _similar(_SPELLING, spelt_name)
    has_words = QueryString("({} @@ {})", search, _QUERY)

    def ids(*conditions: QueryString) -> QueryString:
        return sql(table.select(table.id).where(*living, *(WhereRaw("{}", condition) for condition in conditions)))

    # Comparing a row's name takes ten times as long as testing its words. So similar names are looked up in advance.
    found = Filter(
        WhereRaw("({} OR {})", has_words, similar),
        selective=True,
        row_test=WhereRaw(
            "({} @@ {} OR {} IN (SELECT id FROM similar_names) OR ((SELECT count(*) FROM similar_names) > {} AND {}))",
            search, _WORDS, table.id, QueryString(str(MAX_SIMILAR)), known_similar,
        ),
        alternatives=(
            WhereRaw("{}", has_words),
            WhereRaw("{} = ANY(ARRAY(SELECT id FROM other_similar_names))", table.id),
        ),
        ctes={
            "search_words": QueryString("SELECT {} AS words, {} AS spelling", _QUERY, _TOLERANTLY),
            "similar_names": QueryString(f"{{}} LIMIT {MAX_SIMILAR + 1}", ids(known_similar)),
            "other_similar_names": ids(QueryString("NOT {} @@ {}", search, _WORDS), known_similar),
        },
    )  # fmt: skip
    # Words first, then the similarity of the name. A whole number, because a cursor holds it.
    rank = SortKey(
        QueryString("(1e6 * (ts_rank({}, {}) + word_similarity({}, {})))::int", search, _WORDS, _SPELT, spelt_name),
        int,
        reads=(name_key, search),
        ranks=True,
    )
    return found, rank


def _similar(spelling: QueryString, spelt_name: QueryString) -> QueryString:
    """All words must occur: of two words, one that is alike could make the whole search so. With alternatives, any."""
    return QueryString(
        "({} <% {} AND (strpos({}, ' or ') > 0 OR NOT EXISTS (SELECT FROM unnest(string_to_array({}, ' ')) AS word"
        " WHERE cardinality(show_trgm(word)) > 0 AND NOT word <% {})))",
        *(spelling, spelt_name, spelling, spelling, spelt_name),
    )


def by_name(table: Any) -> SortKey:
    """The order by folded names, which is the same on every server."""
    return SortKey(_generated(table, "name_key"), str)


def filters_of(table: Any, name: SortKey) -> dict[str, Filter]:
    """``name`` is the list's own sort key, by which a filter knows that its index has the order of the list."""
    keys = _generated(table, "tag_keys")
    return {
        "id.in": Filter(WhereRaw("{} = ANY({}::uuid[])", table.id, Param("id_in")), selective=True),
        "name": Filter(
            WhereRaw("{} = name_key({})", name.expression, Param("name")), selective=True, column=name.expression
        ),
        "tags": Filter(WhereRaw("{} @> {}::text[]", keys, Param("tags")), selective=True, prepare=tag_keys),
        "tags.any": Filter(WhereRaw("{} && {}::text[]", keys, Param("tags_any")), selective=True, prepare=tag_keys),
        "tags.none": Filter(
            WhereRaw("NOT {} && {}::text[]", keys, Param("tags_none")), unindexed=True, prepare=tag_keys
        ),
        "created_at.gte": _on_time(table.created_at, ">=", Param("created_at_gte")),
        "created_at.lt": _on_time(table.created_at, "<", Param("created_at_lt")),
        "updated_at.gte": _on_time(table.updated_at, ">=", Param("updated_at_gte")),
        "updated_at.lt": _on_time(table.updated_at, "<", Param("updated_at_lt")),
    }


def _on_time(column: Any, operator: str, value: Param) -> Filter:
    return Filter(WhereRaw(f"{{}} {operator} {{}}", column, value), selective=True, column=column)


@cache
def _generated(table: Any, name: str) -> QueryString:
    """The same object for each use: a page that sorts by two keys selects a column of both only once."""
    return QueryString(f'"{table._meta.tablename}"."{name}"', alias=name)


def ranked(query: Any) -> Any:
    """The list ``query``, sorted by rank if it searches and names no order."""
    if query.sort is None and query.q is not None:
        ordered: ListQuery = msgspec.structs.replace(query, sort=("-rank",))
        return ordered
    return query
