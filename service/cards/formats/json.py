"""A card's JSON, read so that it can be kept and given back as it came: bounded, and nothing in it that could not."""

import json
import math
import re
from decimal import Decimal
from itertools import islice
from typing import Any

from service.errors import MAX_VIOLATIONS, TooLarge, Unprocessable
from service.validation import MAX_DEPTH, is_same, storage_violations, text_fault

LARGEST = 8 * 1024 * 1024  # bytes
MOST_VALUES = 250_000

_STRING = re.compile(rb'"[^"]*"')
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
    if faults := list(islice(storage_violations(document, value_fault=_value_fault), MAX_VIOLATIONS)):
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


def _value_fault(value: object) -> str | None:
    if not isinstance(value, int | float):
        return text_fault(value)
    try:
        fits = math.isfinite(value)
    except OverflowError:
        fits = False
    return None if fits else "Is larger than a double can hold."
