"""Reads the headers of a request."""

from typing import Any

Headers = list[tuple[bytes, bytes]]

MAX_LIST = 1000  # bytes; browsers send up to 200


def request_header(scope: Any, name: bytes) -> bytes | None:
    """The header with this lower-case name, the last one if it may be repeated."""
    found = None
    for each, value in scope["headers"]:
        if each == name:
            found = value
    return found


def list_header(scope: Any, name: bytes) -> bytes | None:
    """The list with this lower-case name, which may be split into several headers. One above MAX_LIST counts as absent:
    it takes up to 50 ms to parse, in which the worker answers nobody."""
    values = [value for each, value in scope["headers"] if each == name]
    joined = b",".join(values)
    return joined if values and len(joined) <= MAX_LIST else None
