"""Refuses compressed bodies: a few bytes could become a body of any size."""

from typing import Any

from service.errors import UnsupportedMediaType
from service.web.middleware.headers import request_header

_IDENTITY = {"Accept-Encoding": "identity"}  # RFC 9110, section 12.5.3: the codings that the URL accepts


def check_content_encoding(scope: Any) -> None:
    coding = request_header(scope, b"content-encoding")
    if coding is not None and coding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedMediaType(
            "Send the body as it is, without a Content-Encoding: no compression is accepted.", headers=_IDENTITY
        )
