"""Reads the parameters ``attributes.<path>[.<operator>]=<value>`` of lists.

Dots lead into nested values. A part of the path in quotes is a name, whatever it contains. A value in quotes is text;
any other value matches text, and the number or boolean that it reads as.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from service.errors import Violation
from service.text.quoting import Part, split_quoted

MAX_ATTRIBUTE_FILTERS = 10
MAX_VALUES = 100  # of one `.in`

_PREFIX = "attributes."
_OPERATORS = ("ne", "lt", "lte", "gt", "gte", "in", "contains", "exists")
# Operators of other query languages: refused, instead of finding nothing under an attribute of this name.
_FOREIGN = {
    "eq", "neq", "not", "nin", "notin", "not_in", "le", "ge", "lessthan", "greaterthan", "like", "ilike", "regex",
    "iregex", "iexact", "icontains", "startswith", "istartswith", "endswith", "iendswith", "starts_with", "ends_with",
    "isnull", "is_null", "between", "range", "overlap", "overlaps", "containedby", "search",
}  # fmt: skip
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?")


def read_attribute_filters(parameters: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], list[Violation]]:
    """The filters by the names that ``attribute_filter`` knows, each with its Params, and all faults."""
    filters: dict[str, dict[str, Any]] = {}
    faults: list[Violation] = []
    for number, (parameter, text) in enumerate(sorted(parameters.items())):
        try:
            operator, given = _read(*_split(parameter), text)
        except ValueError as error:
            faults.append(Violation(str(error), parameter=parameter))
        else:
            filters[f"attributes.{operator}.{number}"] = {f"{name}{number}": value for name, value in given.items()}
    for parameter in sorted(parameters)[MAX_ATTRIBUTE_FILTERS:]:
        fault = f"Is one too many: at most {MAX_ATTRIBUTE_FILTERS} attributes can be filtered by at once."
        faults.append(Violation(fault, parameter=parameter))
    return filters, faults


def _split(parameter: str) -> tuple[list[str], str]:
    """The names of the path, and the operator. Raises ValueError with the fault."""
    try:
        parts = split_quoted(parameter.removeprefix(_PREFIX), ".")
    except ValueError:
        raise ValueError("Must close each quote that begins a part of the name, and go on with a dot.") from None
    operator = "eq"
    if len(parts) > 1 and not parts[-1].is_quoted:
        last = parts[-1].text
        if last in _OPERATORS:
            operator = parts.pop().text
        elif last.lower() in _FOREIGN or last.lower() in _OPERATORS:
            known = ", ".join(f".{name}" for name in _OPERATORS)
            name = f'"{last}"'
            raise ValueError(f"Has an unknown operator. There are: {known}. Quote the name of an attribute: {name}.")
    if any(not part.text and not part.is_quoted for part in parts):
        raise ValueError("Must name an attribute.")
    if any("[" in part.text and not part.is_quoted for part in parts):
        raise ValueError("Operators follow a dot, as in .gte. Quote the name of an attribute with a bracket.")
    return [part.text for part in parts], operator


def _read(names: Sequence[str], operator: str, text: str) -> tuple[str, dict[str, Any]]:
    """The operator to apply, and the Params. Raises ValueError with the fault."""
    path = "$" + "".join(f".{_text(name)}" for name in names)
    if operator == "exists":
        if text not in ("true", "false"):
            raise ValueError("Must be true or false.")
        operator = "exists" if text == "true" else "lacks"
        within = "_within" if len(names) > 1 else ""
        return f"{operator}{within}", {"path": f"strict {path}", "value": names[0]}
    if operator == "in":
        try:
            values: Sequence[Part] = split_quoted(text, ",")
        except ValueError:
            raise ValueError("Must close each quote that begins a value, and go on with a comma.") from None
        if any(not value.text and not value.is_quoted for value in values):
            raise ValueError('Must have no empty value. Write "" for the empty text.')
        if len(values) > MAX_VALUES:
            raise ValueError(f"Must have at most {MAX_VALUES} values.")
    else:
        values = [_value(text)]
        if operator == "contains" and not values[0].text:
            raise ValueError("Must not be empty.")
    forms = [form for value in values for form in _forms(value)]
    if operator in ("eq", "ne", "in"):
        return operator, {"path": "strict " + " || ".join(f"{path} == {form}" for form in forms)}
    return operator, {"path": f"strict {path}", "value": forms if operator == "contains" else forms[-1]}


def _value(text: str) -> Part:
    """A single value: text if it is in quotes as a whole."""
    try:
        parts = split_quoted(text, ",")
    except ValueError:
        return Part(text, False)
    return parts[0] if len(parts) == 1 and parts[0].is_quoted else Part(text, False)


def _forms(value: Part) -> list[str]:
    """The JSON values that ``value`` matches: text, and a number or boolean last."""
    if not value.is_quoted and (value.text in ("true", "false") or _NUMBER.fullmatch(value.text)):
        return [_text(value.text), value.text]
    return [_text(value.text)]


def _text(text: str) -> str:
    return msgspec.json.encode(text).decode()
