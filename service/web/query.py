"""Reading a query string strictly: every parameter known, of its type, and given once (a list may be repeated); all
faults told at once.

A handler names the Struct that declares its parameters with ``query=…``; the OpenAPI document shows the same Struct.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from litestar.params import QueryParameter

from service.errors import BadRequest, Violation
from service.schemas import (
    MAX_PARAMETERS,
    Query,
)
from service.validation import fault_of

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,99})")

_PART = re.compile(r"""\s*+(?:"(?P<quoted>(?:[^"]|"")*+)"\s*+|(?P<plain>[^,"][^,]*+|))(?=,|\Z)""")

Q = TypeVar("Q", bound="Query")


def read_query(request: Request[Any, Any, Any], wanted: type[Q]) -> Q:
    """The query string as a ``wanted``. Raises BadRequest with every fault."""
    if not (text := request.scope["query_string"]):
        nothing: Q = _nothing_asked(wanted)
        return nothing
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise BadRequest("The query string cannot be read.") from error
    fields = _fields(wanted)
    values: dict[str, Any] = {}
    others: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    faults: list[Violation] = []
    for name, value in pairs:
        if name in values or name in others:
            faults.append(Violation("Must be given only once.", parameter=name))
        elif "\0" in name or "\0" in value:
            faults.append(Violation("Must not contain the NUL character.", parameter=name))
        elif name in fields and name != "_open" and _is_list(fields[name].type):
            lists.setdefault(name, []).append(value)
        elif name in fields and name != "_open":
            values[name] = read_value(name, value, fields[name].type, faults)
        elif wanted.open_prefix and name.startswith(wanted.open_prefix):
            others[name] = value
        else:
            faults.append(Violation("Is not a known parameter.", parameter=name))
    for name, given in lists.items():
        values[name] = _read_list(name, given, fields[name].type, faults)
    if faults:
        raise BadRequest("The request's parameters are not valid.", errors=faults)
    by_name = {fields[name].name: value for name, value in values.items()}
    return wanted(**by_name, open=others)


@cache
def _nothing_asked(wanted: type[Q]) -> Q:
    return wanted()


@cache
def _fields(wanted: type[Query]) -> Mapping[str, msgspec.structs.FieldInfo]:
    """The parameters, by the name they are sent under."""
    return {field.encode_name: field for field in msgspec.structs.fields(wanted)}


def read_value(name: str, value: str, wanted: Any, faults: list[Violation]) -> Any:
    """The parameter's value as a ``wanted``, or None and one more of the faults. Stricter than what msgspec calls lax,
    which takes 1.0 for 1, a number for a time, and the word null for no value."""
    plain: Any = value
    if _has(wanted, int) and _INTEGER.fullmatch(value):
        plain = int(value)
    return _convert(name, plain, value, wanted, faults)


def split_list(value: str) -> list[str]:
    """The parts between commas. One with a comma is quoted; in quotes, two are one: ``"a, b","the ""old"" c"``.
    Raises ValueError for a quote that stays open."""
    if '"' not in value:
        return [part.strip() for part in value.split(",")]
    parts, position = [], 0
    while position <= len(value):
        if (part := _PART.match(value, position)) is None:
            raise ValueError(value)
        parts.append(part["plain"].strip() if part["quoted"] is None else part["quoted"].replace('""', '"'))
        position = part.end() + 1
    return parts


def _read_list(name: str, given: list[str], wanted: Any, faults: list[Violation]) -> Any:
    """A list is sent by commas, or by its name again for each part, or both."""
    try:
        parts = tuple(part for value in given for part in split_list(value))
    except ValueError:
        faults.append(Violation("Must close each quote that begins a part, and go on with a comma.", parameter=name))
        return None
    return _convert(name, parts, ",".join(given), wanted, faults)


def _convert(name: str, plain: Any, sent: str, wanted: Any, faults: list[Violation]) -> Any:
    try:
        return msgspec.convert(plain, wanted)
    except msgspec.ValidationError as error:
        fault = fault_of(error, wanted, sent).replace(", not a string.", ".")  # all are strings, as they are sent
        faults.append(Violation(fault, parameter=name))
        return None


@cache
def _is_list(wanted: Any) -> bool:
    return get_origin(wanted) is tuple or any(map(_is_list, get_args(wanted)))


def _has(wanted: Any, kind: Any) -> bool:
    return wanted == kind or any(_has(part, kind) for part in get_args(wanted))


Limit = Annotated[int, QueryParameter(name="limit", ge=1, le=100, description="How many items at most.")]
CursorText = Annotated[
    str | None,
    QueryParameter(name="cursor", max_length=1000, description="Where to go on: `next_cursor` of the page before."),
]
