"""Decoded JSON: its size in PostgreSQL, the number of its values, merge patches, and equality."""

import math
import re
from decimal import Decimal
from typing import Any

_EXPONENT = re.compile(r"\de[+-]?\d")  # of a number, or within a string


def stored_size(value: Any, text: str) -> int:
    """The bytes of ``text``, the JSON of ``value``, once JSONB has written every number in full: 1e300 has 301 digits.
    The spaces that JSONB adds do not count."""
    size = len(text.encode())
    if _EXPONENT.search(text) is None:
        return size
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            waiting.extend(inner.values())
        elif isinstance(inner, list):
            waiting.extend(inner)
        elif isinstance(inner, float) and "e" in (short := repr(inner)):
            size += len(format(Decimal(short), "f")) - len(short)
    return size


def count_values(value: object, most: float = math.inf) -> int:
    """The number of values in JSON: the value itself and everything within it. Stops counting above ``most``."""
    count = 1
    waiting = [value]
    while waiting and count <= most:
        inner = waiting.pop()
        if isinstance(inner, (dict, list)):
            count += len(inner)
            waiting.extend(inner.values() if isinstance(inner, dict) else inner)
    return count


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON Merge Patch (RFC 7396): null in ``patch`` removes a member of ``target``. Neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def patch_between(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The patch with which ``merge_patch`` makes ``after`` of ``before``. Within ``after`` there is no null."""
    patch: dict[str, Any] = dict.fromkeys(before.keys() - after.keys())
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            if inner := patch_between(old, value):
                patch[name] = inner
        elif name not in before or not is_same(old, value):
            patch[name] = value
    return patch


def is_same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal: 1 equals 1.0, but 1 does not equal true, as it does in Python."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
