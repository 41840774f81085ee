"""Checks decoded JSON against a type, and reports every fault with its JSON Pointer."""

import re
import types
import typing
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import Any

import msgspec

from service.errors import (
    MAX_VIOLATIONS,
    Unprocessable,
    Violation,
)

MAX_DEPTH = 64
_LOOKED_AT = 1_000  # items of a list, when faults are collected: more than any list may have
_MAY_HAVE_NUL = (str, dict, list)


def converted(plain: Any, wanted: Any, may_have_nul: bool = True) -> Any:
    """Decoded JSON as ``wanted``. Raises Unprocessable with all faults that are told."""
    nul = _nul_violations(plain) if may_have_nul else ()  # an escaped backslash before it makes it none after all
    if found := list(islice(chain(violations(plain, wanted), nul), MAX_VIOLATIONS)):
        raise Unprocessable.of(found)
    return msgspec.convert(plain, wanted)


def sound_members(plain: Any, wanted: type[msgspec.Struct]) -> dict[str, Any]:
    """Those members of decoded JSON that are as ``wanted`` asks, converted."""
    sound = {}
    for field in msgspec.structs.fields(wanted):
        if isinstance(plain, dict) and field.encode_name in plain:
            with suppress(msgspec.ValidationError):
                sound[field.name] = msgspec.convert(plain[field.encode_name], field.type)
    return sound


def violations(value: Any, wanted: Any, at: str = "") -> Iterator[Violation]:
    """Every way in which ``value`` (decoded JSON) is not a ``wanted``, with JSON Pointers below ``at``."""
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        inner = _inner_violations(value, wanted, at)
        yield next(inner, Violation(fault_of(error, wanted, value), pointer=at))
        yield from inner


def _inner_violations(value: Any, wanted: Any, at: str) -> Iterator[Violation]:
    for choice in _choices(wanted):
        if isinstance(value, dict) and isinstance(choice, type) and issubclass(choice, msgspec.Struct):
            fields = {field.encode_name: field for field in msgspec.structs.fields(choice)}
            for name in value.keys() - fields.keys():
                yield Violation("Is not a known field.", pointer=pointer(at, name))
            for name, field in fields.items():
                if name in value:
                    yield from violations(value[name], field.type, pointer(at, name))
                elif field.required:
                    yield Violation("Is required.", pointer=pointer(at, name))
        elif isinstance(value, list) and typing.get_origin(choice) in (list, tuple):
            for index, item in enumerate(value[:_LOOKED_AT]):
                yield from violations(item, typing.get_args(choice)[0], pointer(at, index))


def fault_of(error: msgspec.ValidationError, wanted: Any, value: Any) -> str:
    """A sentence for the person who gave a ``value`` that is not a ``wanted``."""
    return _told(wanted, value) or sentence(str(error))


def _told(wanted: Any, value: Any) -> str | None:
    """What the type itself says of a value it refuses: its choices, or the words that its Meta has for its pattern."""
    for choice in _choices(wanted):
        if typing.get_origin(choice) is typing.Literal:
            return f"Must be one of: {', '.join(map(str, typing.get_args(choice)))}."
    for meta in _metas(wanted):
        fits = isinstance(value, str) and (meta.min_length or 0) <= len(value) <= (meta.max_length or len(value))
        if meta.pattern and fits:
            return (meta.extra or {}).get("fault")
    return None


def _choices(wanted: Any) -> Iterator[Any]:
    """The members of a union, without the Annotated around any of them."""
    if typing.get_origin(wanted) is typing.Annotated:
        yield from _choices(typing.get_args(wanted)[0])
    elif typing.get_origin(wanted) in (typing.Union, types.UnionType):
        for member in typing.get_args(wanted):
            yield from _choices(member)
    else:
        yield wanted


def _metas(wanted: Any) -> Iterator[msgspec.Meta]:
    """What is said of a type, or of any member of a union."""
    if typing.get_origin(wanted) is typing.Annotated:
        yield from wanted.__metadata__
    elif typing.get_origin(wanted) in (typing.Union, types.UnionType):
        for member in typing.get_args(wanted):
            yield from _metas(member)


def pointer(at: str, name: str | int) -> str:
    """The JSON Pointer (RFC 6901) of the member ``name`` of what ``at`` points to."""
    return f"{at}/{str(name).replace('~', '~0').replace('/', '~1')}"


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7396: members of ``patch`` replace those of ``target``, null removes; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def is_same(one: Any, other: Any) -> bool:
    """Whether JSON calls two values equal: 1 and 1.0 are, 1 and true are not, though Python says so."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _nul_violations(value: Any, at: str = "") -> Iterator[Violation]:
    if isinstance(value, str) and "\0" in value:
        yield Violation("Must not contain the NUL character.", pointer=at)
    elif isinstance(value, dict):
        for name, member in value.items():
            if "\0" in name:
                yield Violation("Must not have the NUL character in a name.", pointer=at)
            if isinstance(member, _MAY_HAVE_NUL):
                yield from _nul_violations(member, pointer(at, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, _MAY_HAVE_NUL):
                yield from _nul_violations(item, pointer(at, index))


# What msgspec says of a value that it refuses
_LENGTH = re.compile(r"Expected `(str|array|object)` of length ([<>]=) (\d+)")
_RANGE = re.compile(r"Expected `(?:int|float)` ([<>]=?) (-?[\d.]+)")
_KINDS = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_WORDS = {
    "str": "a string", "int": "an integer", "float": "a number", "bool": "true or false", "array": "a list",
    "object": "an object", "null": "null", "uuid": "a UUID", "datetime": "a time (RFC 3339, with its zone)",
}  # fmt: skip


def sentence(message: str) -> str:
    """msgspec's message as a sentence for the person who fills in the form."""
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
        wanted, got = (" or ".join(_WORDS.get(kind, kind) for kind in part.split(" | ")) for part in found.groups())
        return f"Must be {wanted}, not {got}."
    if message.startswith("Invalid "):
        message = message.replace("Invalid", "Is not a valid", 1)
    return message.replace("`", "'").rstrip(".") + "."
