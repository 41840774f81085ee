"""The media types that a client accepts."""

from typing import Any

from litestar.datastructures.headers import Accept

from service.web.middleware.headers import list_header


def accepted_types(scope: Any) -> Accept:
    """Without the header, a client accepts any."""
    accepted = list_header(scope, b"accept")
    return Accept("*/*" if accepted is None else accepted.decode("latin-1"))
