"""A card's JSON, read so that it can be kept and given back as it came: bounded, and nothing in it that could not."""

import json
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import islice
from typing import Any

from service.errors import MAX_VIOLATIONS, TooLarge, Unprocessable, Violation
from service.validation import MAX_DEPTH, is_same, pointer

LARGEST = 8 * 1024 * 1024  # bytes
MOST_VALUES = 250_000

_STRING = re.compile(rb'"[^"]*"')
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_INTEGER = 400  # digits; the largest double has 309


def read_document(text: bytes) -> dict[str, Any]:
    """Raises TooLarge, or Unprocessable with every fault."""
    if len(text) > LARGEST:
        raise TooLarge(f"A card is at most {LARGEST // 1024**2} MiB of JSON.")
    if _most_values(text) > MOST_VALUES:
        raise Unprocessable(f"The card has more than {MOST_VALUES:,} values.")
    try:
        document = json.loads(text.decode("utf-8-sig"), parse_int=_integer, parse_constant=_refuse)
    except RecursionError as error:
        raise Unprocessable(f"The card is nested deeper than {MAX_DEPTH} levels.") from error
    except ValueError as error:
        raise Unprocessable("The card is not valid JSON (UTF-8).") from error
    if not isinstance(document, dict):
        raise Unprocessable("The card is not a JSON object.")
    if faults := list(islice(_faults(document), MAX_VIOLATIONS)):
        raise Unprocessable.of(faults)
    return document


def written_document(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def is_unchanged(value: Any, kept: str) -> bool:
    """Whether ``kept``, which JSONB wrote, is ``value``: it writes 1e30 with all its digits."""
    exact = json.loads(written_document(value), parse_float=Decimal)
    return is_same(exact, json.loads(kept, parse_float=Decimal))


def _most_values(text: bytes) -> int:
    """How many values there are in JSON, found without making them."""
    outside = _STRING.sub(b"", text.replace(rb"\\", b"").replace(rb"\"", b""))
    return 1 + outside.count(b",") + outside.count(b"[") + outside.count(b"{")


def _integer(digits: str) -> float | int:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else math.inf


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _faults(document: dict[str, Any]) -> Iterator[Violation]:
    waiting: deque[tuple[Any, str, int]] = deque([(document, "", 1)])
    while waiting:
        container, at, depth = waiting.popleft()
        if depth > MAX_DEPTH:
            yield Violation(f"Is nested deeper than {MAX_DEPTH} levels.", pointer=at)
            continue
        for name, member in _members(container):
            if isinstance(name, str) and (fault := _text_fault(name)):
                yield Violation(f"A name: {fault}", pointer=at)  # at the object: the name is no use in a pointer
            elif isinstance(member, dict | list):
                waiting.append((member, pointer(at, name), depth + 1))
            elif fault := _text_fault(member) if isinstance(member, str) else _number_fault(member):
                yield Violation(fault, pointer=pointer(at, name))


def _members(container: Any) -> Iterable[tuple[str | int, Any]]:
    return container.items() if isinstance(container, dict) else enumerate(container)


def _text_fault(text: str) -> str | None:
    if "\0" in text:
        return "Must not contain the NUL character."
    return "Must not contain half of a surrogate pair." if _SURROGATE.search(text) else None


def _number_fault(value: Any) -> str | None:
    try:
        fits = value is None or math.isfinite(value)
    except OverflowError:
        fits = False
    return None if fits else "Is larger than a double can hold."
