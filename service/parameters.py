"""Reading a query string strictly: every parameter known, given once, of its type; all faults told at once.

A handler names the Struct that declares its parameters with ``query=…``; the OpenAPI document shows the same Struct.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from litestar import Request
from msgspec import Meta

from service.bodies import fault_of
from service.errors import BadRequest, Violation

MAX_PARAMETERS = 100

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,99})")

Names = tuple[str, ...]  # written as a,b,c
LimitValue = Annotated[int, Meta(ge=1, le=100, description="How many items at most.")]
CursorValue = Annotated[str, Meta(max_length=2000, description="Where to go on: `next_cursor` of the page before.")]

OwnerValue = Annotated[
    str, Meta(max_length=32, description="`me`, or a username; without it mine and everyone's public ones.")
]
SearchValue = Annotated[
    str,
    Meta(min_length=1, max_length=200, description="Words in name, description and tags; names may be misspelt."),
]
AllTags = Annotated[Names, Meta(max_length=20, description="All of these: `a,b`.")]
AnyTags = Annotated[Names, Meta(max_length=20, description="Any of these: `a,b`.")]

Q = TypeVar("Q", bound="Query")


class Query(msgspec.Struct, kw_only=True, frozen=True):
    """The parameters of a route. Those of an open family, as in ``attributes.<name>``, come in ``open``."""

    open_prefix: ClassVar[str] = ""

    open: dict[str, str] = msgspec.field(default_factory=dict, name="_open")


class FieldsQuery(Query, kw_only=True, frozen=True):
    """How much of a resource is wanted."""

    fields: Annotated[Names, Meta(description="Only these members, and `id`: `name,tags`.")] | None = None
    expand: Annotated[Names, Meta(description="Members to show whole: `owner,template`.")] | None = None


class PageQuery(Query, kw_only=True, frozen=True):
    """How much of a list is wanted that has but one order."""

    limit: LimitValue = 20
    cursor: CursorValue | None = None


class ListQuery(FieldsQuery, kw_only=True, frozen=True):
    """How much of a list is wanted, of what, and in which order."""

    limit: LimitValue = 20
    cursor: CursorValue | None = None
    sort: Annotated[Names, Meta(description="Sort keys, `-` descending: `-created_at,name`.")] | None = None
    count: (
        Annotated[
            Literal["exact", "estimated"], Meta(description="Adds `total`: counted up to 10,000, or estimated beyond.")
        ]
        | None
    ) = None


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
    faults: list[Violation] = []
    for name, value in pairs:
        if name in values or name in others:
            faults.append(Violation("Must be given only once.", parameter=name))
        elif "\0" in name or "\0" in value:
            faults.append(Violation("Must not contain the NUL character.", parameter=name))
        elif name in fields and name != "_open":
            values[name] = read_value(name, value, fields[name].type, faults)
        elif wanted.open_prefix and name.startswith(wanted.open_prefix):
            others[name] = value
        else:
            faults.append(Violation("Is not a known parameter.", parameter=name))
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
    if _is_list(wanted):
        plain = tuple(part.strip() for part in value.split(","))
    elif _has(wanted, int) and _INTEGER.fullmatch(value):
        plain = int(value)
    try:
        return msgspec.convert(plain, wanted)
    except msgspec.ValidationError as error:
        fault = fault_of(error, wanted, value).replace(", not a string.", ".")  # all are strings, as they are sent
        faults.append(Violation(fault, parameter=name))
        return None


def _is_list(wanted: Any) -> bool:
    return get_origin(wanted) is tuple or any(map(_is_list, get_args(wanted)))


def _has(wanted: Any, kind: Any) -> bool:
    return wanted == kind or any(_has(part, kind) for part in get_args(wanted))
