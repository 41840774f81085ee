"""Applies the schema of a template to attributes: completes them with defaults and finds their faults."""

from collections.abc import Callable, Iterator
from functools import reduce
from itertools import islice
from typing import Any

import jsonschema_rs
import msgspec

from service.errors import MAX_VIOLATIONS, Violation
from service.templates.rules.bounds import bounds_violations, json_bytes, size_fault
from service.validation import pointer

Schema = dict[str, Any]

PATTERN_BYTES = 64 * 1024  # of a compiled pattern: bounds the time for each character of a text
PATTERN_CACHE_BYTES = 1024 * 1024

TYPES = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}
FORMATS = {
    "date": "a date such as 2025-03-21",
    "date-time": "a date and time such as 2025-03-21T18:30:00Z",
    "time": "a time such as 18:30:00Z",
    "duration": "a duration such as P1DT12H",
    "email": "an e-mail address",
    "hostname": "a host name",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "uri": "an absolute URI",
    "uuid": "a UUID",
}


class Rules:
    """Compiled from a valid schema (see `schema_violations`). Has no state and may be shared."""

    __slots__ = ("_schema", "_validator")

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._validator = compile_schema(schema)

    def complete(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """A deep copy with the defaults of missing members, including those within existing objects and lists."""
        completed: dict[str, Any] = with_defaults(self._schema, attributes)
        return completed

    def violations(self, attributes: dict[str, Any], at: str = "/attributes") -> list[Violation]:
        """All faults, at most MAX_VIOLATIONS: by the bounds of all attributes and by this schema."""
        found = bounds_violations(attributes, at)
        if found and (size_fault(attributes) or json_bytes(attributes) is None):
            return found
        return [*found, *islice(self.rule_violations(attributes, at), MAX_VIOLATIONS - len(found))]

    def rule_violations(self, value: object, at: str) -> Iterator[Violation]:
        for error in self._validator.iter_errors(value):
            yield from _violations_of(error, self._schema, value, at)


def compile_schema(schema: Schema) -> jsonschema_rs.Validator:
    """Fetches nothing: `offline` is a second guard behind the allow-list. Patterns run in linear time."""
    return jsonschema_rs.Draft202012Validator(
        schema,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_CACHE_BYTES),
        validate_formats=True,
        ignore_unknown_formats=False,
        offline=True,
    )


def with_defaults(schema: Schema, value: Any) -> Any:
    if isinstance(value, list):
        items = schema.get("items", {})
        return [with_defaults(items, item) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    completed = {name: with_defaults(properties.get(name, {}), member) for name, member in value.items()}
    for name, rule in properties.items():
        if name not in completed and "default" in rule:
            completed[name] = with_defaults(rule, rule["default"])
    return completed


def abbreviated(value: object, most: int = 60) -> str:
    """A string unchanged, any other value as JSON; cut after ``most`` characters."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= most else f"{text[:most]}…"


def abbreviated_list(values: list[Any]) -> str:
    return abbreviated(", ".join(abbreviated(value) for value in values), most=400)


def _violations_of(
    error: jsonschema_rs.ValidationError, schema: Schema, document: object, at: str
) -> Iterator[Violation]:
    where = pointer(at, *error.instance_path)
    keyword = str(error.schema_path[-1])
    rule = _follow(schema, error.schema_path[:-1])
    value = _follow(document, error.instance_path)
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        yield Violation(pointer=pointer(where, error.kind.property), detail="Is required.")
    elif keyword == "additionalProperties":  # without properties the library names only the first
        for name in value:
            if name not in rule.get("properties", {}):
                yield Violation(pointer=pointer(where, name), detail="Is not an attribute of this template.")
    else:
        yield Violation(pointer=where, detail=_DETAILS[keyword](rule[keyword], value))


def _follow(document: Any, path: list[str | int]) -> Any:
    return reduce(lambda inner, step: inner[step], path, document)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


_DETAILS: dict[str, Callable[[Any, Any], str]] = {
    "type": lambda limit, value: f"Must be {TYPES[limit]}.",
    "enum": lambda limit, value: f"Must be one of: {abbreviated_list(limit)}.",
    "const": lambda limit, value: f"Must be {abbreviated(limit)}.",
    "minimum": lambda limit, value: f"{abbreviated(value)} is less than the minimum of {limit}.",
    "maximum": lambda limit, value: f"{abbreviated(value)} is greater than the maximum of {limit}.",
    "exclusiveMinimum": lambda limit, value: f"{abbreviated(value)} is not greater than {limit}.",
    "exclusiveMaximum": lambda limit, value: f"{abbreviated(value)} is not less than {limit}.",
    "multipleOf": lambda limit, value: f"{abbreviated(value)} is not a multiple of {limit}.",
    "minLength": lambda limit, value: f"Must be at least {_count(limit, 'character')}.",
    "maxLength": lambda limit, value: f"Must be at most {_count(limit, 'character')}.",
    "minItems": lambda limit, value: f"Must have at least {_count(limit, 'item')}.",
    "maxItems": lambda limit, value: f"Must have at most {_count(limit, 'item')}.",
    "uniqueItems": lambda limit, value: "Must not have the same item twice.",
    "pattern": lambda limit, value: f"Must match the pattern “{abbreviated(limit)}”.",
    "format": lambda limit, value: f"Must be {FORMATS[limit]}.",
}
