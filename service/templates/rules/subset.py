"""The subset of JSON Schema that templates may use. Keywords that are not on the allow-list are refused.

This check runs before any validator reads the schema: validators fetch `$ref`, `$id` and `$schema` from URLs and files.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs

from service.errors import Violation
from service.templates.rules.bounds import json_bytes, jsonb_violations
from service.templates.rules.details import FORMATS, TYPES, abbreviated, abbreviated_list
from service.templates.rules.nodes import Schema, compile_schema
from service.templates.rules.validator import Rules, null_choices
from service.text.json_values import count_values
from service.validation import pointer, reported

DIALECT = "https://json-schema.org/draft/2020-12/schema"

SCHEMA_BYTES = 64 * 1024
SCHEMA_VALUES = 5_000  # 200 properties with 25 values each
SCHEMA_DEPTH = 8  # levels of schemas, including the root
SCHEMA_PROPERTIES = 200  # in all
PATTERN_CHARACTERS = 500  # in all; compiling takes up to 20 µs for each
# Characters that `\d`, `\s`, `\w`, `\p`, `[^`, `{` and `.` count in addition, because they compile more slowly
SLOW_CHARACTERS = 10
BROKEN_CHARACTERS = 20  # that a pattern counts in addition if it does not compile, because the attempt is slow
DATA_VALUES = 200  # in one enum, const or default, including nested values


def schema_violations(schema: object, at: str = "/attribute_schema") -> list[Violation]:
    """The faults of a schema that are reported. Reads no files and fetches no URLs.

    Four checks, each of which runs only if the one before found no faults: the bounds of stored JSON, the subset,
    choices that no client can send, and whether the defaults are valid.
    """
    if not isinstance(schema, dict):
        return [Violation(pointer=at, detail="Must be an object.")]
    for check in (_bounds, _subset, null_choices, _defaults):
        if found := reported(check(schema, at)):
            return found
    return []


def _bounds(schema: Schema, at: str) -> Iterator[Violation]:
    if (json_bytes(schema) or 0) > SCHEMA_BYTES:
        yield Violation(pointer=at, detail=f"Must be at most {SCHEMA_BYTES // 1024} KiB as JSON.")
    elif count_values(schema, SCHEMA_VALUES) > SCHEMA_VALUES:
        yield Violation(pointer=at, detail=f"Must hold at most {SCHEMA_VALUES:,} values, nested ones included.")
    else:
        yield from jsonb_violations(schema, at, max_depth=4 * SCHEMA_DEPTH)


def _subset(schema: Schema, at: str) -> Iterator[Violation]:
    if "type" not in schema:
        yield Violation(pointer=pointer(at, "type"), detail=_ROOT_TYPE)
    yield from _SchemaWalk().violations(schema, at, depth=1)


def _defaults(schema: Schema, at: str) -> Iterator[Violation]:
    """A default is checked as it is stored: completed with the defaults within it."""
    yield from Rules(schema).default_violations(at)


class _SchemaWalk:
    """One walk over one schema; counts the properties and pattern characters of the whole schema."""

    def __init__(self) -> None:
        self.properties = 0
        self.pattern_characters = 0

    def violations(self, schema: object, at: str, depth: int) -> Iterator[Violation]:
        if not isinstance(schema, dict):
            yield Violation(pointer=at, detail="Must be a schema, which is an object.")
            return
        if depth > SCHEMA_DEPTH:
            yield Violation(pointer=at, detail=f"Schemas must not be nested more than {SCHEMA_DEPTH} deep.")
            return
        valid = {}
        for keyword, value in schema.items():
            if detail := self._fault(keyword, value, schema.get("type"), depth):
                yield Violation(pointer=pointer(at, keyword), detail=detail)
            else:
                valid[keyword] = value
        yield from _contradictions(valid, at)
        for path, inner in _inner_schemas(valid):
            yield from self.violations(inner, pointer(at, *path), depth + 1)

    def _fault(self, keyword: str, value: Any, schema_type: object, depth: int) -> str | None:
        if depth == 1 and keyword in _ROOT:
            return _ROOT[keyword](value)
        if keyword.startswith("x-"):
            return None
        if keyword not in _KEYWORDS:
            return f"“{abbreviated(keyword)}” is not a supported keyword here."
        if not _applies(keyword, schema_type):
            return f"Does not apply to the type “{schema_type}”."
        return _KEYWORDS[keyword](value) or self._limit(keyword, value)

    def _limit(self, keyword: str, value: Any) -> str | None:
        if keyword == "properties":
            self.properties += len(value)
            if self.properties > SCHEMA_PROPERTIES:
                return f"A schema must have at most {SCHEMA_PROPERTIES} properties in all."
        if keyword == "pattern":
            slow = len(_SLOW_TO_COMPILE.findall(value))
            self.pattern_characters += len(value) + SLOW_CHARACTERS * slow
            if self.pattern_characters > PATTERN_CHARACTERS:
                return _PATTERNS_TOO_LONG
            if fault := _pattern_fault(value):
                self.pattern_characters += BROKEN_CHARACTERS
            return fault
        return None


def _inner_schemas(schema: Schema) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in schema.get("properties", {}).items():
        yield ("properties", name), inner
    if "items" in schema:
        yield ("items",), schema["items"]


def _contradictions(valid: Schema, at: str) -> Iterator[Violation]:
    for low, high, may_meet in _RANGES:
        if not (low in valid and high in valid):
            continue
        if valid[low] > valid[high] or (valid[low] == valid[high] and not may_meet):
            yield Violation(pointer=pointer(at, low), detail=f"Allows no value, because “{high}” is {valid[high]}.")
    if valid.get("additionalProperties") is False:
        for index, name in enumerate(valid.get("required", [])):
            if name not in valid.get("properties", {}):
                detail = f"“{abbreviated(name)}” is required but not among the properties."
                yield Violation(pointer=pointer(at, "required", index), detail=detail)


def _applies(keyword: str, schema_type: object) -> bool:
    is_known_type = isinstance(schema_type, str) and schema_type in _OF_TYPE
    return not is_known_type or keyword not in _OF_SOME_TYPE or keyword in _OF_TYPE[str(schema_type)]


def _type_fault(value: object) -> str | None:
    if isinstance(value, list):
        return "Must be one type, not a list of types."
    if value == "null":
        return "The type “null” is not supported: leave out an attribute that has no value."
    return None if isinstance(value, str) and value in TYPES else f"Must be one of: {abbreviated_list(list(TYPES))}."


def _pattern_fault(pattern: str) -> str | None:
    if re.search(r"\(\?(?!:)", re.sub(r"\\.", "", pattern)):
        return "A group must begin with “(” or “(?:”; look-around, names and flags are not supported."
    try:
        compile_schema({"pattern": pattern})
    except (jsonschema_rs.ValidationError, ValueError):
        return "Is not a valid pattern, or is too complex: back-references are not supported."
    return None


def _must(be: str, holds: Callable[[Any], bool]) -> Callable[[Any], str | None]:
    return lambda value: None if holds(value) else f"Must be {be}."


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and len(set(value)) == len(value)


def _is_small(value: object) -> bool:
    return count_values(value, 1 + DATA_VALUES) <= 1 + DATA_VALUES


_SLOW_TO_COMPILE = re.compile(r"\\[dswp]|\[\^|\{|(?<!\\)\.", re.IGNORECASE)
_PATTERNS_TOO_LONG = (
    f"The patterns of a schema must have at most {PATTERN_CHARACTERS} characters in all, "
    f"each \\d, \\s, \\w, \\p, [^, {{ or . counts as {SLOW_CHARACTERS} more."
)
_ROOT_TYPE = "Must be “object” at the root."
_ROOT: dict[str, Callable[[Any], str | None]] = {
    "$schema": _must(DIALECT, lambda value: value == DIALECT),
    "type": lambda value: None if value == "object" else _ROOT_TYPE,
    "default": lambda value: "The root cannot have a default; set one for each property.",
}

_SCHEMA = _must("a schema, which is an object", lambda value: isinstance(value, dict))
_TEXT = _must("text", lambda value: isinstance(value, str))
_BOOLEAN = _must("true or false", lambda value: isinstance(value, bool))
_NUMBER = _must("a number", _is_number)
_COUNT = _must("a whole number, 0 or more", lambda value: _is_number(value) and isinstance(value, int) and value >= 0)
_SMALL = _must(f"at most {DATA_VALUES} values, nested ones included", _is_small)

_KEYWORDS: dict[str, Callable[[Any], str | None]] = {
    "title": _TEXT,
    "description": _TEXT,
    "examples": _must("a list", lambda value: isinstance(value, list)),
    "default": _SMALL,
    "type": _type_fault,
    "enum": _must(
        f"a list of 1 to {DATA_VALUES} values, nested ones included",
        lambda value: isinstance(value, list) and len(value) > 0 and _is_small(value),
    ),
    "const": _SMALL,
    "properties": _must("an object with a schema for each name", lambda value: isinstance(value, dict)),
    "required": _must("a list of names without repetition", _is_list_of_names),
    "additionalProperties": _BOOLEAN,
    "items": _SCHEMA,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "uniqueItems": _BOOLEAN,
    "minimum": _NUMBER,
    "maximum": _NUMBER,
    "exclusiveMinimum": _NUMBER,
    "exclusiveMaximum": _NUMBER,
    "multipleOf": _must("a number greater than 0", lambda value: _is_number(value) and value > 0),
    "minLength": _COUNT,
    "maxLength": _COUNT,
    "pattern": _TEXT,
    "format": _must(f"one of: {', '.join(FORMATS)}", lambda value: isinstance(value, str) and value in FORMATS),
}
_NUMERIC = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_OF_TYPE: dict[str, set[str]] = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems", "uniqueItems"},
    "integer": _NUMERIC,
    "number": _NUMERIC,
    "string": {"minLength", "maxLength", "pattern", "format"},
    "boolean": set(),
}
_OF_SOME_TYPE = set().union(*_OF_TYPE.values())
_RANGES = (
    ("minLength", "maxLength", True),
    ("minItems", "maxItems", True),
    ("minimum", "maximum", True),
    ("minimum", "exclusiveMaximum", False),
    ("exclusiveMinimum", "maximum", False),
    ("exclusiveMinimum", "exclusiveMaximum", False),
)
