"""Reads a query string strictly: each parameter must be known and valid, and given once unless it is a list. All
faults are reported at once.

A handler names the Struct of its parameters in its signature, as in ``request: StrictRequest[CharacterQuery]``. The
guard ``known_parameters`` reads it for every route, and the OpenAPI document shows the same Struct.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from litestar.handlers import BaseRouteHandler

from service.errors import BadRequest, Violation
from service.parameters import MAX_PARAMETERS, DryRunQuery, Query
from service.text.quoting import split_quoted
from service.validation import fault_message

_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,99})")
_BOOLEANS = {"true": True, "false": False}
_SPACE_IN_ZONE = re.compile(r"(?<=[0-9]) (?=[0-9]{2}:[0-9]{2}$)")  # which a "+" in a query string means
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Q = TypeVar("Q", bound=Query)


@cache
def query_of(handler: BaseRouteHandler) -> type[Query]:
    """The Struct that the handler's ``request`` argument names. A handler without one takes no parameters, or only
    ``dry_run`` if the route has ``dry_run=True``."""
    request = handler.parsed_fn_signature.parameters.get("request")
    for argument in get_args(request.annotation) if request else ():
        if isinstance(argument, type) and issubclass(argument, Query):
            return argument
    return DryRunQuery if handler.opt.get("dry_run") else Query


def read_query(text: bytes, wanted: type[Q]) -> Q:
    """The query string ``text`` as a ``wanted``. Raises BadRequest with every fault."""
    if not text:
        empty: Q = _empty(wanted)
        return empty
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError as error:
        raise BadRequest("The query string cannot be read.") from error
    fields = _fields(wanted)
    values: dict[str, Any] = {}
    opened: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    faults: list[Violation] = []
    for name, value in pairs:
        if name in opened and name.removeprefix(wanted.open_prefix).endswith(".in"):
            opened[name] += f",{value}"
        elif name in values or name in opened:
            faults.append(Violation("Must be given only once.", parameter=name))
        elif "\0" in name or "\0" in value:
            faults.append(Violation("Must not contain the NUL character.", parameter=name))
        elif name in fields and name != "_open" and _is_list(fields[name].type):
            lists.setdefault(name, []).append(value)
        elif name in fields and name != "_open":
            values[name] = _read_value(name, value, fields[name].type, faults)
        elif wanted.open_prefix and name.startswith(wanted.open_prefix):
            opened[name] = value
        else:
            faults.append(Violation("Is not a known parameter.", parameter=name))
    for name, given in lists.items():
        values[name] = _read_list(name, given, fields[name].type, faults)
    faults += wanted.violations(values)
    read, faults_of_open = wanted.read_open(opened) if opened else ({}, [])
    faults += faults_of_open
    if faults:
        raise BadRequest.of(faults)
    by_name = {fields[name].name: value for name, value in values.items()}
    return wanted(**by_name, open=read)


@cache
def _empty(wanted: type[Q]) -> Q:
    return wanted()


@cache
def _fields(wanted: type[Query]) -> Mapping[str, msgspec.structs.FieldInfo]:
    """The parameters, by their names in a query string."""
    return {field.encode_name: field for field in msgspec.structs.fields(wanted)}


def _read_value(name: str, value: str, wanted: Any, faults: list[Violation]) -> Any:
    """The parameter's value as a ``wanted``; None, with one more fault, if it is not valid. Stricter than msgspec's lax
    mode, which accepts 1.0 as an integer, a number as a time, and "null" as no value."""
    plain: Any = value
    if _has(wanted, int) and _INTEGER.fullmatch(value):
        plain = int(value)
    elif _has(wanted, bool):
        plain = _BOOLEANS.get(value, value)
    elif _has(wanted, datetime) and _DAY.fullmatch(value):
        plain = f"{value}T00:00:00Z"
    elif _has(wanted, datetime):
        plain = _SPACE_IN_ZONE.sub("+", value)
    return _convert(name, plain, value, wanted, faults)


def _read_list(name: str, given: list[str], wanted: Any, faults: list[Violation]) -> Any:
    """A list is sent by commas, or by its name again for each part, or both."""
    try:
        parts = tuple(part.text for value in given for part in split_quoted(value, ","))
    except ValueError:
        faults.append(Violation("Must close each quote that begins a part, and go on with a comma.", parameter=name))
        return None
    return _convert(name, parts, ",".join(given), wanted, faults)


def _convert(name: str, plain: Any, sent: str, wanted: Any, faults: list[Violation]) -> Any:
    try:
        return msgspec.convert(plain, wanted)
    except msgspec.ValidationError as error:
        fault = fault_message(error, wanted, sent).replace(", not a string.", ".")  # every value is sent as a string
        faults.append(Violation(fault, parameter=name))
        return None


@cache
def _is_list(wanted: Any) -> bool:
    return get_origin(wanted) is tuple or any(map(_is_list, get_args(wanted)))


def _has(wanted: Any, kind: Any) -> bool:
    return wanted == kind or any(_has(part, kind) for part in get_args(wanted))
