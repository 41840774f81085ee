"""What attributes and schemas must keep to whatever a template says: sizes, and what JSONB and a double can hold."""

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec

from service.errors import Violation

MOST_VIOLATIONS = 100

ATTRIBUTES_BYTES = 64 * 1024
ATTRIBUTES_MEMBERS = 200
ATTRIBUTES_VALUES = 1_000  # nested ones included: a validator copies the broken rule for each value that breaks it
ATTRIBUTES_DEPTH = 16
NAME_LENGTH = 100
BIGINT_MIN, BIGINT_MAX = -(2**63), 2**63 - 1

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\ud800-\udfff]")


def free_violations(attributes: dict[str, Any], at: str = "/attributes") -> list[Violation]:
    """The bounds of every character's attributes; without a template they are the only rules."""
    if detail := oversize(attributes):
        return [Violation(pointer=at, detail=detail)]
    return list(islice(unstorable(attributes, at, depth=ATTRIBUTES_DEPTH), MOST_VIOLATIONS))


def oversize(attributes: dict[str, Any]) -> str | None:
    if (json_bytes(attributes) or 0) > ATTRIBUTES_BYTES:
        return f"Must be at most {ATTRIBUTES_BYTES // 1024} KiB as JSON."
    if len(attributes) > ATTRIBUTES_MEMBERS:
        return f"Must have at most {ATTRIBUTES_MEMBERS} members."
    if count_values(attributes) > ATTRIBUTES_VALUES:
        return f"Must hold at most {ATTRIBUTES_VALUES:,} values, nested ones included."
    return None


def unstorable(value: object, at: str, *, depth: int) -> Iterator[Violation]:
    waiting: deque[tuple[object, str, int]] = deque([(value, at, 1)])
    while waiting:
        container, where, level = waiting.popleft()
        if level > depth:
            yield Violation(pointer=where, detail=f"Must not be nested more than {depth} levels deep.")
            continue
        for key, member in _members(container):
            if isinstance(key, str) and (detail := _name_fault(key)):
                yield Violation(pointer=where, detail=detail)  # at the object: such a name is no use in a pointer
            elif isinstance(member, dict | list):
                waiting.append((member, pointer(where, key), level + 1))
            elif detail := _scalar_fault(member):
                yield Violation(pointer=pointer(where, key), detail=detail)


def json_bytes(value: object) -> int | None:
    """The length as JSON; None when a lone surrogate keeps the value from being JSON at all."""
    try:
        return len(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return None


def count_values(value: object) -> int:
    return 1 + sum(count_values(member) if isinstance(member, dict | list) else 1 for _, member in _members(value))


def pointer(at: str, *path: str | int) -> str:
    """A JSON Pointer (RFC 6901) further down the path."""
    return at + "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)


def _members(value: object) -> Iterable[tuple[str | int, object]]:
    if isinstance(value, dict):
        return value.items()
    return enumerate(value) if isinstance(value, list) else ()


def _name_fault(name: str) -> str | None:
    if 0 < len(name) <= NAME_LENGTH and not _CONTROL.search(name):
        return None
    return f"A name must have 1 to {NAME_LENGTH} characters, none of them a control character: {name[:40]!a}."


def _scalar_fault(value: object) -> str | None:
    if isinstance(value, str):
        return "Must not contain NUL or a lone surrogate." if _UNSTORABLE.search(value) else None
    if isinstance(value, float) and not math.isfinite(value):
        return "Must be a finite number."
    if isinstance(value, int | float) and not BIGINT_MIN <= value <= BIGINT_MAX:  # 1e30 is read back as an integer
        return f"Must be between {BIGINT_MIN} and {BIGINT_MAX}."
    return None
