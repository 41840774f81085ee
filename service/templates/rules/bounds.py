"""Bounds of attributes and attribute schemas, whatever the template: sizes, and what JSONB and a double can hold."""

import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from service.errors import Violation
from service.text.json_values import count_values
from service.validation import reported, storage_violations, text_fault

ATTRIBUTES_BYTES = 64 * 1024
ATTRIBUTES_MEMBERS = 200
ATTRIBUTES_VALUES = 1_000  # including nested ones: a validator copies the rule for each value that breaks it
ATTRIBUTES_DEPTH = 16
NAME_LENGTH = 100
BIGINT_MIN, BIGINT_MAX = -(2**63), 2**63 - 1
SMALLEST_NUMBER = 1e-30  # a validator divides smaller numbers slowly

_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")


def bounds_violations(
    attributes: dict[str, Any], at: str = "/attributes", *, is_small: bool = False
) -> list[Violation]:
    """The faults of attributes without a template that are reported; a template adds its own rules. ``is_small`` says
    that the attributes are known to be small enough."""
    if not is_small and (detail := size_fault(attributes)):
        return [Violation(pointer=at, detail=detail)]
    return reported(jsonb_violations(attributes, at, max_depth=ATTRIBUTES_DEPTH))


def size_fault(attributes: dict[str, Any]) -> str | None:
    if len(attributes) > ATTRIBUTES_MEMBERS:
        return f"Must have at most {ATTRIBUTES_MEMBERS} members."
    if count_values(attributes, ATTRIBUTES_VALUES) > ATTRIBUTES_VALUES:
        return f"Must hold at most {ATTRIBUTES_VALUES:,} values, nested ones included."
    if (json_bytes(attributes) or 0) > ATTRIBUTES_BYTES:
        return f"Must be at most {ATTRIBUTES_BYTES // 1024} KiB as JSON."
    return None


def jsonb_violations(value: object, at: str, *, max_depth: int) -> Iterator[Violation]:
    return storage_violations(
        value,
        at,
        max_depth=max_depth,
        too_deep=f"Must not be nested more than {max_depth} levels deep.",
        name_fault=_name_fault,
        value_fault=_value_fault,
    )


def json_bytes(value: object) -> int | None:
    """The length as JSON in bytes; None if a lone surrogate makes the value impossible to encode."""
    try:
        return len(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return None


def _name_fault(name: str) -> str | None:
    if 0 < len(name) <= NAME_LENGTH and not _CONTROL.search(name):
        return None
    return f"A name must have 1 to {NAME_LENGTH} characters, none of them a control character: {name[:40]!a}."


def _value_fault(value: object) -> str | None:
    if isinstance(value, str):
        return text_fault(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "Must be a finite number."
    if isinstance(value, (int, float)) and not BIGINT_MIN <= value <= BIGINT_MAX:  # JSONB returns 1e30 as an integer
        return f"Must be between {BIGINT_MIN} and {BIGINT_MAX}."
    if isinstance(value, float) and 0 < abs(value) < SMALLEST_NUMBER:
        return f"Must be 0, or at least {SMALLEST_NUMBER} from it."
    return None
