"""The filters of lists of characters."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

import msgspec
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.characters.tables import Character
from service.database.prepared import Param, sql
from service.errors import BadRequest, Violation
from service.lists.filters import Given, OpenFilters
from service.lists.statements import Filter, SortKey
from service.schemas import Style

MAX_ATTRIBUTE_FILTERS = 10

_PREFIX = "attributes."
_OPERATORS = ("ne", "lt", "lte", "gt", "gte", "in", "contains", "exists")
_COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_INDEXED = {"eq", "in", "exists"}

MAX_SIMILAR = 100  # similar names that are looked up in advance; with more, each row's name is compared

_QUERY = QueryString("websearch_to_tsquery('simple', plain({}))", Param("q"))
_TOLERANT = QueryString("{} !~ '(^| )[-\"]'", Param("q"))  # no excluded word, no phrase
_SEARCH = QueryString('"characters"."search"', alias="search")
_SIMILAR = QueryString("({} AND plain({}) <% plain({}))", _TOLERANT, Param("q"), Character.name)
_HAS_WORDS = QueryString("({} @@ {})", _SEARCH, _QUERY)
_WORDS = QueryString("(SELECT words FROM search_words)")


def _ids(*conditions: QueryString) -> QueryString:
    where = [WhereRaw("{}", condition) for condition in conditions]
    return sql(Character.select(Character.id).where(Character.deleted_at.is_null(), *where))


# Comparing a row's name takes ten times as long as testing its words. So similar names are looked up in advance.
_SEARCHED = Filter(
    WhereRaw("({} OR {})", _HAS_WORDS, _SIMILAR),
    selective=True,
    row_test=WhereRaw(
        "({} @@ {} OR {} IN (SELECT id FROM similar_names) OR ((SELECT count(*) FROM similar_names) > {} AND {}))",
        _SEARCH, _WORDS, Character.id, QueryString(str(MAX_SIMILAR)), _SIMILAR,
    ),
    alternatives=(
        WhereRaw("{}", _HAS_WORDS),
        WhereRaw("{} = ANY(ARRAY(SELECT id FROM other_similar_names))", Character.id),
    ),
    ctes={
        "search_words": QueryString("SELECT {} AS words", _QUERY),
        "similar_names": QueryString(f"{{}} LIMIT {MAX_SIMILAR + 1}", _ids(_SIMILAR)),
        "other_similar_names": _ids(QueryString("NOT {} @@ {}", _SEARCH, _WORDS), _SIMILAR),
    },
)  # fmt: skip

# Words first, then the similarity of the name. A whole number, because a cursor holds it.
RANK = SortKey(
    QueryString(
        "(1e6 * (ts_rank({}, {}) + word_similarity(plain({}), plain({}))))::int",
        _SEARCH,
        _WORDS,
        Param("q"),
        Character.name,
    ),
    int,
    reads=(Character.name, _SEARCH),
    ranks=True,
)


def _on_time(column: Any, operator: str, value: Param) -> Filter:
    return Filter(WhereRaw(f"{{}} {operator} {{}}", column, value), selective=True, column=column)


STYLE = Filter(Character.style == Param("style"))
FILTERS = {
    "q": _SEARCHED,
    "tags": Filter(WhereRaw("{} @> {}::varchar[]", Character.tags, Param("tags")), selective=True),
    "tags.any": Filter(WhereRaw("{} && {}::varchar[]", Character.tags, Param("tags_any")), selective=True),
    "visibility": Filter(Character.visibility == Param("visibility")),
    "template": Filter(Character.template == Param("template"), selective=True),
    "template_version": Filter(Character.template_version == Param("template_version"), unindexed=True),
    "created_at.gte": _on_time(Character.created_at, ">=", Param("created_at_gte")),
    "created_at.lt": _on_time(Character.created_at, "<", Param("created_at_lt")),
    "updated_at.gte": _on_time(Character.updated_at, ">=", Param("updated_at_gte")),
    "updated_at.lt": _on_time(Character.updated_at, "<", Param("updated_at_lt")),
}
# Literals, because PostgreSQL knows how common each style is. With a parameter, all styles would share one plan.
STYLES = {style: Filter(WhereRaw(f"{{}} = '{style}'", Character.style), selective=True) for style in get_args(Style)}


@cache
def _attribute_filter(name: str) -> Filter:
    """By ``attributes.<operator>.<number>``; the attribute's name is a parameter."""
    _, operator, number = name.split(".")
    return _on_attribute(operator, Param(f"name{number}"), Param(f"value{number}"))


def _on_attribute(operator: str, name: Param, value: Param) -> Filter:
    """``value`` is JSON, or a path query for ``eq`` and ``in``. ``exists`` and ``lacks`` ignore it."""
    attribute = QueryString("({} -> {})", Character.attributes, name)
    if operator in ("eq", "in"):
        # the index can find any of several values with one path query
        condition = WhereRaw("{} @@ {}::jsonpath", Character.attributes, value)
    elif operator == "ne":
        condition = WhereRaw("{} IS DISTINCT FROM {}::jsonb", attribute, value)
    elif operator == "exists":
        condition = WhereRaw("{} ? {}", Character.attributes, name)
    elif operator == "lacks":
        condition = WhereRaw("NOT {} ? {}", Character.attributes, name)
    elif operator == "contains":
        text = QueryString("lower({}::jsonb #>> ARRAY[]::text[])", value)
        condition = WhereRaw(
            "({} @> {}::jsonb OR (jsonb_typeof({}) = 'string' AND strpos(lower({} #>> ARRAY[]::text[]), {}) > 0))",
            attribute, value, attribute, attribute, text,
        )  # fmt: skip
    else:
        condition = WhereRaw(
            f"(jsonb_typeof({{}}) = jsonb_typeof({{}}::jsonb) AND {{}} {_COMPARISONS[operator]} {{}}::jsonb)",
            attribute, value, attribute, value,
        )  # fmt: skip
    return Filter(condition, selective=operator in _INDEXED, unindexed=operator not in _INDEXED)


def _read_attribute_filters(open_parameters: Mapping[str, str]) -> Given:
    if len(open_parameters) > MAX_ATTRIBUTE_FILTERS:
        raise BadRequest(f"At most {MAX_ATTRIBUTE_FILTERS} attributes can be filtered by at once.")
    filters: Given = {}
    for number, (parameter, text) in enumerate(sorted(open_parameters.items())):
        name, operator = _split(parameter)
        value = _value(parameter, name, operator, text)
        if operator == "exists" and not value:
            operator = "lacks"
        filters[f"attributes.{operator}.{number}"] = {f"name{number}": name, f"value{number}": value}
    return filters


ATTRIBUTES = OpenFilters(_read_attribute_filters, _attribute_filter)


def _split(parameter: str) -> tuple[str, str]:
    name, _, operator = parameter.removeprefix(_PREFIX).rpartition(".")
    if name and operator in _OPERATORS:
        return name, operator
    if name := parameter.removeprefix(_PREFIX):
        return name, "eq"
    raise BadRequest(errors=[Violation("Must name an attribute.", parameter=parameter)])


def _value(parameter: str, name: str, operator: str, text: str) -> Any:
    if operator == "exists":
        if text not in ("true", "false"):
            raise BadRequest(errors=[Violation("Must be true or false.", parameter=parameter)])
        return text == "true"
    if operator in ("eq", "in"):
        values = text.split(",") if operator == "in" else [text]
        member = msgspec.json.encode(name).decode()
        return "strict " + " || ".join(f"$.{member} == {_json(value)}" for value in values)
    return _json(text)


def _json(text: str) -> str:
    """``text`` as JSON: a number or a boolean if it can be read as one, else a string."""
    if text in ("true", "false") or re.fullmatch(r"-?(0|[1-9]\d{0,30})(\.\d{1,30})?([eE][+-]?\d{1,2})?", text):
        return text
    return msgspec.json.encode(text).decode()
