"""Reads the headers of a request."""

from typing import Any

Headers = list[tuple[bytes, bytes]]


def request_header(scope: Any, name: bytes) -> bytes | None:
    """The header with this lower-case name, the last one if it may be repeated."""
    found = None
    for each, value in scope["headers"]:
        if each == name:
            found = value
    return found
