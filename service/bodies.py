"""Reading a JSON body strictly, and telling every fault of it at once.

msgspec decodes straight into the Struct; only when that fails is the body walked again, to collect all faults.
"""

import re
import types
import typing
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import chain, islice
from typing import Any

import msgspec
from litestar import Request
from litestar.types import Empty

from service.errors import MAX_VIOLATIONS, BadRequest, Unprocessable, UnsupportedMediaType, Violation, sentence

MAX_DEPTH = 64
_LOOKED_AT = 1_000  # items of a list, when faults are collected: more than any list may have
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # also without its end: no text takes long
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_TOO_DEEP = b"[" * (MAX_DEPTH + 1)
_ALL_ELSE = bytes(set(range(256)) - set(b"[]{}"))
_MAY_HAVE_NUL = (str, dict, list)

_NUL = re.compile(rb"\\u0000")


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON body becomes the Struct that the handler asks for, or a problem that names every fault."""

    async def json(self) -> Any:
        if self._json is Empty:
            media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
            if media_type != "application/json" and not media_type.endswith("+json"):
                raise UnsupportedMediaType("The body must be JSON, with 'Content-Type: application/json'.")
            field = self.route_handler.parsed_data_field
            wanted = field.annotation if field else Any
            try:
                self._json = read_json(await self.body(), wanted)
            except Unprocessable as error:
                raise await self._told_whole(error, wanted) from None
        return self._json

    async def _told_whole(self, error: Unprocessable, wanted: Any) -> Unprocessable:
        """With what the route would find in the members that are sound: a form is corrected in one go."""
        look_further = self.route_handler.opt.get("look_further")
        if look_further is None or not error.errors:
            return error
        sound = sound_members(msgspec.json.decode(await self.body()), wanted)
        told = {fault.pointer for fault in error.errors}
        further = [fault for fault in await look_further(self, sound) if fault.pointer not in told]
        return Unprocessable.of([*error.errors, *further])


def read_json(body: bytes, wanted: Any) -> Any:
    """``body`` as ``wanted``. Raises BadRequest when it is not JSON, Unprocessable with all faults when it is."""
    try:
        if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_too_deep(body):
            raise BadRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
        with suppress(msgspec.ValidationError):
            if not _NUL.search(body):
                return _decoder(wanted).decode(body)
        plain = msgspec.json.decode(body)
    except msgspec.ValidationError as error:
        raise Unprocessable("A number in the body is out of range.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest("The body is not valid JSON (UTF-8).") from error
    return converted(plain, wanted, _NUL.search(body) is not None)


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


@lru_cache(maxsize=256)
def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted)


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


def _is_too_deep(body: bytes) -> bool:
    """Whether more than MAX_DEPTH lists and objects lie within each other. Nothing is decoded, and nothing is looked at
    one by one: a body may be all brackets."""
    brackets = _STRING.sub(b"", body).translate(_BRACKETS, _ALL_ELSE)
    if _TOO_DEEP in brackets:
        return True
    for _ in range(MAX_DEPTH):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            return False  # none are left, or it is no JSON
        brackets = outer
    return bool(brackets)
