"""JSON that an operator writes in a form: faults name the line."""

import json
import re
from contextlib import suppress
from typing import Any

import msgspec

_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\s,:]*")  # a name, a value or the next one
_TOO_SHORT = ("Input data was truncated", "the text ends too early")
_AT_BYTE = re.compile(r" \(byte (\d+)\)$")


class NotAnObject(Exception):
    """Its text is a sentence for the operator."""


def read_object(text: str) -> dict[str, Any]:
    """Raises NotAnObject, which names line and column."""
    if not text.strip():
        raise NotAnObject("Must not be empty.")
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise NotAnObject(f"Is not a JSON object: {error}.") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        fault = str(error).removeprefix("JSON is malformed: ").replace(*_TOO_SHORT)
        found = _AT_BYTE.search(fault)
        before = text.encode(errors="replace")[: int(found[1]) if found else len(text)].decode(errors="replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise NotAnObject(f"Line {line}, column {column}: {_AT_BYTE.sub('', fault)}.") from None


def line_of(text: str, path: list[str]) -> int:
    """The line of the value at ``path`` in a JSON text; if it is missing, that of the object that lacks it."""
    at = _skip(text, 0)
    with suppress(RecursionError):  # nested too deep for Python's decoder: the line of what is around it
        for name in path:
            if (found := _find_member(text, at, name)) is None:
                break
            at = found
    return text.count("\n", 0, at) + 1


def _find_member(text: str, at: int, name: str) -> int | None:
    """Where the value of the member, or the item, begins in the object or list that begins at ``at``."""
    if text[at] not in "{[":
        return None
    is_object, index, at = text[at] == "{", 0, _skip(text, at + 1)
    while text[at] not in "}]":
        key = str(index)
        if is_object:
            key, end = _DECODER.raw_decode(text, at)
            at = _skip(text, end)
        if key == name:
            return at
        at, index = _skip(text, _DECODER.raw_decode(text, at)[1]), index + 1
    return None


def _skip(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at
