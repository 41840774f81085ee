"""Reads and writes the JSON of a card without loss. Documents that are too large or cannot be stored are refused."""

import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from service.errors import TooLarge, Unprocessable
from service.text.json_values import is_same
from service.validation import MAX_DEPTH, reported, storage_violations, text_fault

MAX_BYTES = 8 * 1024 * 1024
MAX_VALUES = 250_000

_STRING = re.compile(rb'"[^"]*"')
_LONGEST_INTEGER = 400  # digits; the largest double has 309


def read_document(text: bytes) -> dict[str, Any]:
    """Raises TooLarge, or Unprocessable with the faults that are reported."""
    check_size([text])
    try:
        document = json.loads(text.decode("utf-8-sig"), parse_int=_integer, parse_constant=_refuse)
    except RecursionError as error:
        raise Unprocessable(f"The card is nested deeper than {MAX_DEPTH} levels.") from error
    except ValueError as error:
        raise Unprocessable("The card is not valid JSON (UTF-8).") from error
    return check_document(document)


def check_size(texts: Sequence[bytes]) -> None:
    """Raises TooLarge or Unprocessable for texts that are too large together; nothing is decoded."""
    if sum(map(len, texts)) > MAX_BYTES:
        raise TooLarge(f"A card may have at most {MAX_BYTES // 1024**2} MiB of JSON.")
    check_values(sum(map(_count_values, texts)))


def check_values(count: int) -> None:
    """Raises Unprocessable."""
    if count > MAX_VALUES:
        raise Unprocessable(f"The card has more than {MAX_VALUES:,} values.")


def check_document(document: Any) -> dict[str, Any]:
    """The document, if it is an object that can be stored. Raises Unprocessable with the faults that are reported."""
    if not isinstance(document, dict):
        kind = "a list" if isinstance(document, list) else "a single value"
        raise Unprocessable(f"This is not a Character Card: it is {kind}, not an object.")
    if faults := reported(storage_violations(document, value_fault=_value_fault)):
        raise Unprocessable.of(faults)
    return document


def write_document(document: Any) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def equals_stored(value: Any, stored: str) -> bool:
    """Whether ``value`` equals ``stored``, the text of a JSONB column, in which 1e30 has all its digits."""
    exact = json.loads(write_document(value), parse_float=Decimal)
    return is_same(exact, json.loads(stored, parse_float=Decimal))


def _count_values(text: bytes) -> int:
    """At least the number of values in JSON, counted without decoding it."""
    outside = _STRING.sub(b"", text.replace(rb"\\", b"").replace(rb"\"", b""))
    return 1 + outside.count(b",") + outside.count(b"[") + outside.count(b"{")


def _integer(digits: str) -> float | int:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else math.inf


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _value_fault(value: object) -> str | None:
    if not isinstance(value, int | float):
        return text_fault(value)
    try:
        fits = math.isfinite(value)
    except OverflowError:
        fits = False
    return None if fits else "Is larger than a double can hold."
