"""The sentences that tell a fault of attributes, by the keyword of the schema."""

from collections.abc import Callable
from typing import Any

import msgspec

TYPES = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}
_LIST_LENGTH = 400  # characters
FORMATS = {  # each with a valid example, because inputs of HTML give other forms of times: 13:45, 2026-11-27T13:45
    "date": "a date such as 2025-03-21",
    "date-time": "a date and time with seconds and a zone, such as 2025-03-21T18:30:00Z",
    "time": "a time with seconds and a zone, such as 18:30:00Z",
    "duration": "a duration such as P1DT12H",
    "email": "an e-mail address such as mira@example.org",
    "hostname": "a host name such as www.example.org",
    "ipv4": "an IPv4 address such as 192.0.2.1",
    "ipv6": "an IPv6 address such as 2001:db8::1",
    "uri": "an absolute URI such as https://example.org/mira",
    "uuid": "a UUID such as 01920000-0000-7000-8000-000000000001",
}


def abbreviated(value: object, most: int = 60) -> str:
    """A string unchanged, any other value as JSON; cut after ``most`` characters."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= most else f"{text[:most]}…"


def abbreviated_list(values: list[Any]) -> str:
    text = ""
    for value in values:
        text += f"{', ' if text else ''}{abbreviated(value)}"
        if len(text) > _LIST_LENGTH:
            break
    return abbreviated(text, _LIST_LENGTH)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


DETAILS: dict[str, Callable[[Any, Any], str]] = {
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
# The sentences of these name the value.
OF_VALUE = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
