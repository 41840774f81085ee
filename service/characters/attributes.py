"""Filters of lists by attributes, which service/characters/attribute_parameters.py reads."""

from functools import cache

from piccolo.columns.combination import WhereRaw
from piccolo.querystring import QueryString

from service.characters.tables import Character
from service.database.prepared import Param
from service.lists.statements import Filter

_COMPARISONS = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_INDEXED = {"eq", "in", "exists", "exists_within"}


@cache
def attribute_filter(name: str) -> Filter:
    """By ``attributes.<operator>.<number>``; the path is a parameter."""
    _, operator, number = name.split(".")
    return _on_attribute(operator, Param(f"path{number}"), Param(f"value{number}"))


def _on_attribute(operator: str, path: Param, value: Param) -> Filter:
    """``path`` is a path in SQL/JSON, or a predicate on it for ``eq``, ``in`` and ``ne``, which ignore ``value``.
    ``value`` is JSON; for ``contains`` a list of JSON, and for existence the first name of the path."""
    attribute = QueryString("jsonb_path_query_first({}, {}::jsonpath, silent => true)", Character.attributes, path)
    if operator in ("eq", "in"):
        # the index can find any of several values with one predicate
        condition = WhereRaw("{} @@ {}::jsonpath", Character.attributes, path)
    elif operator == "ne":
        condition = WhereRaw("({} @@ {}::jsonpath) IS NOT TRUE", Character.attributes, path)
    elif operator == "exists":
        condition = WhereRaw("{} ? {}", Character.attributes, value)
    elif operator == "lacks":
        condition = WhereRaw("NOT {} ? {}", Character.attributes, value)
    elif operator == "exists_within":  # the index finds only the first name of the path
        condition = WhereRaw("{} ? {} AND {} @? {}::jsonpath", Character.attributes, value, Character.attributes, path)
    elif operator == "lacks_within":
        condition = WhereRaw("({} @? {}::jsonpath) IS NOT TRUE", Character.attributes, path)
    elif operator == "contains":
        text = QueryString("lower(({}::jsonb[])[1] #>> ARRAY[]::text[])", value)
        condition = WhereRaw(
            "({} @> ANY({}::jsonb[])"
            " OR (jsonb_typeof({}) = 'string' AND strpos(lower({} #>> ARRAY[]::text[]), {}) > 0))",
            attribute, value, attribute, attribute, text,
        )  # fmt: skip
    else:
        condition = WhereRaw(
            f"(jsonb_typeof({{}}) = jsonb_typeof({{}}::jsonb) AND {{}} {_COMPARISONS[operator]} {{}}::jsonb)",
            attribute, value, attribute, value,
        )  # fmt: skip
    return Filter(condition, selective=operator in _INDEXED, unindexed=operator not in _INDEXED)
