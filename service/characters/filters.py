"""What a list of characters can be filtered by."""

import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.characters.schemas import CharacterQuery
from service.characters.tables import Character
from service.database.prepared import Param, sql
from service.errors import BadRequest, Violation
from service.lists.listing import given_filters
from service.lists.statements import Filter, SortKey
from service.schemas import Style

MAX_ATTRIBUTE_FILTERS = 10

_PREFIX = "attributes."
_OPERATORS = ("ne", "lt", "lte", "gt", "gte", "in", "contains", "exists")
_COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_INDEXED = {"eq", "in", "exists"}  # "lacks" is what exists=false asks

MOST_ALIKE = 100  # names that are looked up for a walk; if there are more, it looks at each

_QUERY = QueryString("websearch_to_tsquery('simple', plain({}))", Param("q"))
_LOOSE = QueryString("{} !~ '(^| )[-\"]'", Param("q"))  # excludes no word and quotes none
_SEARCH = QueryString('"characters"."search"', alias="search")
_ALIKE = QueryString("({} AND plain({}) <% plain({}))", _LOOSE, Param("q"), Character.name)
_HAS_WORDS = QueryString("({} @@ {})", _SEARCH, _QUERY)
_WORDS = QueryString("(SELECT words FROM sought)")


def _ids(*conditions: QueryString) -> QueryString:
    where = [WhereRaw("{}", condition) for condition in conditions]
    return sql(Character.select(Character.id).where(Character.deleted_at.is_null(), *where))


# Words are quick to ask a row for. Whether a name is alike takes ten times as long, so that is looked up beforehand.
_SEARCHED = Filter(
    WhereRaw("({} OR {})", _HAS_WORDS, _ALIKE),
    selective=True,
    met=WhereRaw(
        "({} @@ {} OR {} IN (SELECT id FROM alike) OR ((SELECT count(*) FROM alike) > {} AND {}))",
        _SEARCH, _WORDS, Character.id, QueryString(str(MOST_ALIKE)), _ALIKE,
    ),
    ways=(WhereRaw("{}", _HAS_WORDS), WhereRaw("{} = ANY(ARRAY(SELECT id FROM only_alike))", Character.id)),
    ctes={
        "sought": QueryString("SELECT {} AS words", _QUERY),
        "alike": QueryString(f"{{}} LIMIT {MOST_ALIKE + 1}", _ids(_ALIKE)),
        "only_alike": _ids(QueryString("NOT {} @@ {}", _SEARCH, _WORDS), _ALIKE),
    },
)  # fmt: skip

# Ranked by words, then by how alike the name is; in whole numbers, so that a cursor can hold the rank.
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


class CharacterFilters(dict[str, Filter]):
    """By name; one on an attribute is called ``attributes.<operator>.<number>``, whatever its attribute's name is."""

    def __missing__(self, name: str) -> Filter:
        _, operator, number = name.split(".")
        return self.setdefault(name, _on_attribute(operator, Param(f"name{number}"), Param(f"value{number}")))


def _on_time(column: Any, operator: str, value: Param) -> Filter:
    return Filter(WhereRaw(f"{{}} {operator} {{}}", column, value), selective=True, column=column)


FILTERS = CharacterFilters(
    {
        "q": _SEARCHED,
        "tags": Filter(WhereRaw("{} @> {}::varchar[]", Character.tags, Param("tags")), selective=True),
        "tags.any": Filter(WhereRaw("{} && {}::varchar[]", Character.tags, Param("tags_any")), selective=True),
        "style": Filter(Character.style == Param("style")),
        "visibility": Filter(Character.visibility == Param("visibility")),
        "template": Filter(Character.template == Param("template"), selective=True),
        "template_version": Filter(Character.template_version == Param("template_version"), unindexed=True),
        "created_at.gte": _on_time(Character.created_at, ">=", Param("created_at_gte")),
        "created_at.lt": _on_time(Character.created_at, "<", Param("created_at_lt")),
        "updated_at.gte": _on_time(Character.updated_at, ">=", Param("updated_at_gte")),
        "updated_at.lt": _on_time(Character.updated_at, "<", Param("updated_at_lt")),
    }
    # Written out, as PostgreSQL knows how common each style is: for any of them it would choose one plan.
    | {
        f"style.{style}": Filter(WhereRaw(f"{{}} = '{style}'", Character.style), selective=True)
        for style in get_args(Style)
    }
)


def _on_attribute(operator: str, name: Param, value: Param) -> Filter:
    """``value`` is a JSON text, or a path query for ``eq`` and ``in``; ``exists`` and ``lacks`` need none."""
    attribute = QueryString("({} -> {})", Character.attributes, name)
    if operator in ("eq", "in"):
        # a path query finds any of several values through the one index
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


def filters_of(query: CharacterQuery) -> dict[str, dict[str, Any]]:
    """The filters that a query names, each with the values of its Params. Raises BadRequest for an attribute filter
    that cannot be read, or too many of them."""
    given = given_filters(
        {
            "q": query.q,
            "tags": query.tags,
            "tags.any": query.tags_any,
            "visibility": query.visibility,
            "template": query.template,
            "template_version": query.template_version,
            "created_at.gte": query.created_at_gte,
            "created_at.lt": query.created_at_lt,
            "updated_at.gte": query.updated_at_gte,
            "updated_at.lt": query.updated_at_lt,
        }
    )
    if query.style is not None:
        given[f"style.{query.style}"] = {}
    return given | _attribute_filters(query.open)


def _attribute_filters(open_parameters: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    if len(open_parameters) > MAX_ATTRIBUTE_FILTERS:
        raise BadRequest(f"At most {MAX_ATTRIBUTE_FILTERS} attributes can be filtered by at once.")
    filters = {}
    for number, (parameter, text) in enumerate(sorted(open_parameters.items())):
        name, operator = _split(parameter)
        value = _value(parameter, name, operator, text)
        if operator == "exists" and not value:
            operator = "lacks"
        filters[f"attributes.{operator}.{number}"] = {f"name{number}": name, f"value{number}": value}
    return filters


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
    """A text that reads as a JSON number or boolean is one; any other is itself."""
    if text in ("true", "false") or re.fullmatch(r"-?(0|[1-9]\d{0,30})(\.\d{1,30})?([eE][+-]?\d{1,2})?", text):
        return text
    return msgspec.json.encode(text).decode()
