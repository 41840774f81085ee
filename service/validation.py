"""Checks of decoded JSON: against a type, and for text that PostgreSQL cannot store. Every fault has a JSON Pointer."""

import re
import types
import typing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any, TypeVar

import msgspec

from service.errors import MAX_VIOLATIONS, Unprocessable, Violation

MAX_DEPTH = 64  # levels of lists and objects within each other
MAX_POINTERS = 64 * 1024  # bytes of the pointers of one problem: each repeats the names that lead to its fault
UNKNOWN = "Is not a known field."
_MAX_ITEMS_CHECKED = 1_000  # of each list, when faults are collected; no list of a valid body is longer
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

_Path = tuple[str | int, ...]  # to a value: the names of members and the positions of items

Converted = TypeVar("Converted")


def convert(plain: Any, expected: type[Converted], may_have_nul: bool = True) -> Converted:
    """Converts decoded JSON to the type ``expected``. Raises Unprocessable with the faults that are reported."""
    unstorable = storage_violations(plain) if may_have_nul else ()
    if found := reported(chain(violations(plain, expected), unstorable)):
        raise Unprocessable.of(found)
    return msgspec.convert(plain, expected)


def reported(found: Iterable[Violation]) -> list[Violation]:
    """The first faults: at most MAX_VIOLATIONS, whose pointers have at most MAX_POINTERS bytes together. If that of the
    very first is longer, it ends at the object that has the long name. No more faults are looked for."""
    kept: list[Violation] = []
    left = MAX_POINTERS
    for fault in islice(found, MAX_VIOLATIONS):
        left -= _size(fault.pointer or "")
        if left < 0:
            return kept or [msgspec.structs.replace(fault, pointer=_shortened(fault.pointer or ""))]
        kept.append(fault)
    return kept


def _size(at: str) -> int:
    """In a response, where a control character has six bytes. The length alone tells that a pointer is too long."""
    return len(at) if len(at) > MAX_POINTERS else len(msgspec.json.encode(at))


def _shortened(at: str) -> str:
    at = at[:MAX_POINTERS]
    while _size(at) > MAX_POINTERS or len(at) == MAX_POINTERS:
        at = at.rpartition("/")[0]
    return at


def valid_members(plain: Any, expected: type[msgspec.Struct]) -> dict[str, Any]:
    """The members of decoded JSON that are valid for the fields of ``expected``, converted, by field name."""
    valid = {}
    for field in msgspec.structs.fields(expected):
        if isinstance(plain, dict) and field.encode_name in plain:
            with suppress(msgspec.ValidationError):
                valid[field.name] = msgspec.convert(plain[field.encode_name], field.type)
    return valid


def text_fault(value: object) -> str | None:
    """A sentence if ``value`` is a string that PostgreSQL cannot store as text or JSONB."""
    if isinstance(value, str) and (character := _unstorable_character(value)):
        return f"Must not contain {character}."
    return None


def name_fault(name: str) -> str | None:
    """Like ``text_fault``, for the name of a member."""
    character = _unstorable_character(name)
    return f"Must not have {character} in a name." if character else None


def _unstorable_character(text: str) -> str | None:
    found = _UNSTORABLE.search(text)
    if found is None:
        return None
    return "the NUL character" if found[0] == "\0" else "half of a surrogate pair"


def storage_violations(
    value: object,
    at: str = "",
    *,
    max_depth: int = MAX_DEPTH,
    too_deep: str = f"Is nested deeper than {MAX_DEPTH} levels.",
    name_fault: Callable[[str], str | None] = name_fault,
    value_fault: Callable[[object], str | None] = text_fault,
) -> Iterator[Violation]:
    """Walks decoded JSON breadth-first and checks every name and every value that is no list and no object.

    Members with a faulty name are reported at their object, because no pointer can show such a name; their values are
    not checked. Lists and objects below ``max_depth`` levels are reported as ``too_deep`` and not entered.
    """
    if not isinstance(value, (dict, list)):
        if fault := value_fault(value):
            yield Violation(fault, pointer=at)
        return
    waiting: deque[tuple[dict[str, Any] | list[Any], _Path]] = deque([(value, ())])
    while waiting:
        container, path = waiting.popleft()
        if len(path) >= max_depth:
            yield Violation(too_deep, pointer=pointer(at, *path))
            continue
        members: Iterable[tuple[str | int, Any]]
        members = container.items() if isinstance(container, dict) else enumerate(container)
        for key, member in members:
            if isinstance(key, str) and (fault := name_fault(key)):
                yield Violation(fault, pointer=pointer(at, *path))
            elif isinstance(member, (dict, list)):
                waiting.append((member, (*path, key)))
            elif fault := value_fault(member):
                yield Violation(fault, pointer=pointer(at, *path, key))


def pointer(at: str, *path: str | int) -> str:
    """The JSON Pointer (RFC 6901) of the member or item that ``path`` leads to from ``at``, itself a JSON Pointer."""
    return at + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def violations(value: Any, expected: Any, at: str = "") -> Iterator[Violation]:
    """All faults of ``value``, decoded JSON at the JSON Pointer ``at``, by which it is not of the type ``expected``."""
    try:
        msgspec.convert(value, expected)
    except msgspec.ValidationError as error:
        inner = _inner_violations(value, expected, at)
        yield next(inner, Violation(fault_message(error, expected, value), pointer=at))
        yield from inner


def _inner_violations(value: Any, expected: Any, at: str) -> Iterator[Violation]:
    for choice in _choices(expected):
        if isinstance(value, dict) and isinstance(choice, type) and issubclass(choice, msgspec.Struct):
            fields = {field.encode_name: field for field in msgspec.structs.fields(choice)}
            for name in value.keys() - fields.keys():
                yield Violation(UNKNOWN, pointer=pointer(at, name))
            for name, field in fields.items():
                if name in value:
                    yield from violations(value[name], field.type, pointer(at, name))
                elif field.required:
                    yield Violation("Is required.", pointer=pointer(at, name))
        elif isinstance(value, list) and typing.get_origin(choice) in (list, tuple):
            for index, item in enumerate(value[:_MAX_ITEMS_CHECKED]):
                yield from violations(item, typing.get_args(choice)[0], pointer(at, index))


def fault_message(error: msgspec.ValidationError, expected: Any, value: Any) -> str:
    """A sentence for the client that says why ``value`` is not of the type ``expected``."""
    is_of_length = _LENGTH.match(str(error)) is not None  # of a text or a list, whatever its type says of its parts
    return (None if is_of_length else _message_from_type(expected, value)) or sentence(str(error))


def _message_from_type(expected: Any, value: Any) -> str | None:
    """The choices of a Literal, or what the Meta of a pattern has among its ``extra``: the sentence for the first
    pattern of ``unless`` that does not match, or else ``fault``."""
    if (literal := _literal(expected)) is not None:
        return f"Must be one of: {', '.join(map(str, typing.get_args(literal)))}."
    for meta in _metas(expected):
        fits = isinstance(value, str) and (meta.min_length or 0) <= len(value) <= (meta.max_length or len(value))
        if meta.pattern and fits:
            extra = meta.extra or {}
            unmet = (fault for pattern, fault in extra.get("unless", {}).items() if not re.search(pattern, value))
            return next(unmet, extra.get("fault"))
    return None


def _literal(expected: Any) -> Any:
    """The Literal of a type or, in a query parameter, of the parts of a list."""
    for choice in _choices(expected):
        if typing.get_origin(choice) is typing.Literal:
            return choice
        if typing.get_origin(choice) is tuple and (found := _literal(typing.get_args(choice)[0])) is not None:
            return found
    return None


def _choices(expected: Any) -> Iterator[Any]:
    """The members of a union, or the type itself; Annotated is removed."""
    if typing.get_origin(expected) is typing.Annotated:
        yield from _choices(typing.get_args(expected)[0])
    elif typing.get_origin(expected) in (typing.Union, types.UnionType):
        for member in typing.get_args(expected):
            yield from _choices(member)
    else:
        yield expected


def _metas(expected: Any) -> Iterator[msgspec.Meta]:
    """The Metas of a type and of the members of a union."""
    if typing.get_origin(expected) is typing.Annotated:
        yield from expected.__metadata__
    elif typing.get_origin(expected) in (typing.Union, types.UnionType):
        for member in typing.get_args(expected):
            yield from _metas(member)


# The messages of msgspec.ValidationError
_LENGTH = re.compile(r"Expected `(str|array|object)` of length ([<>]=) (\d+)")
_RANGE = re.compile(r"Expected `(?:int|float)` ([<>]=?) (-?[\d.]+)")
_KINDS = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_WORDS = {
    "str": "a string", "int": "an integer", "float": "a number", "bool": "true or false", "array": "a list",
    "object": "an object", "null": "null", "uuid": "a UUID", "datetime": "a time (RFC 3339, with its zone)",
}  # fmt: skip


_OTHERS = {
    "Invalid UUID": "Is not a valid UUID.",
    "Invalid RFC3339": "Is not a valid time (RFC 3339).",
    "Expected `datetime` with a timezone": "Must be a time with its zone (RFC 3339).",
    "Expected `str` matching regex": "Does not have the required form.",
    "Integer value out of range": "Is out of range.",
    "Number out of range": "Is out of range.",
    "Object contains unknown field": UNKNOWN,
    "Object missing required field": "Is not complete.",
    "Missing required": "Is required.",
}  # by their beginnings


def sentence(message: str) -> str:
    """The message of a msgspec.ValidationError as a sentence for clients. No other text of msgspec is passed on."""
    message = message.split(" - at `")[0]
    if found := _LENGTH.match(message):
        kind, side, bound = found.groups()
        noun = {"str": "character", "array": "item", "object": "member"}[kind] + ("s" if bound != "1" else "")
        return f"Must {'be' if kind == 'str' else 'have'} at {'most' if side == '<=' else 'least'} {bound} {noun}."
    if found := _RANGE.match(message):
        side, bound = found.groups()
        words = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}[side]
        return f"Must be {words} {bound}."
    if found := _KINDS.match(message):
        expected, got = (" or ".join(_WORDS.get(kind, kind) for kind in part.split(" | ")) for part in found.groups())
        return f"Must be {expected}, not {got}."
    return next((text for beginning, text in _OTHERS.items() if message.startswith(beginning)), "Is not valid.")
