"""Answers whose JSON PostgreSQL has rendered: it goes out untouched."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode
from uuid import UUID

from litestar import Request, Response
from litestar.types import ASGIApp, Receive, Send

from service.errors import BadRequest, PreconditionFailed, Violation
from service.listing import Rows
from service.paging import encode_cursor

T = TypeVar("T")

_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


class Rendered(Response[Any], Generic[T]):
    """A body that is JSON already, documented as a ``T``. Of Litestar's Response it is the type alone: nothing is left
    to be encoded, merged or guessed, and what sends it is three lines instead of three calls of three objects."""

    def __init__(self, body: str | bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.rendered = body.encode() if isinstance(body, str) else body
        self.status = status
        self.told = headers or {}

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override] # any ASGI application will do
        return self._send

    async def _send(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.told.items()]
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.rendered))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.rendered, "more_body": False})


def resource(row: Any, *, created_at: str | None = None) -> Rendered[Any]:
    """The answer for one row of (id, version, item): its ETag, and its Location when it was just created there."""
    headers = {"etag": etag(row["id"], row["version"])}
    if created_at is None:
        return Rendered(row["item"], headers=headers)
    return Rendered(row["item"], status=201, headers=headers | {"location": created_at})


def created(row: Any, location: str) -> Rendered[Any]:
    """The answer for something new that has no versions."""
    return Rendered(row["item"], status=201, headers={"location": location})


def page(request: Request[Any, Any, Any], found: Rows, limit: int) -> Rendered[Any]:
    """A page of ``limit`` items, with the way to the next one where there are more."""
    shown = found.rows[:limit]
    cursor = None
    headers = {}
    if len(found.rows) > limit:
        cursor = encode_cursor([shown[-1][key] for key in found.keys], found.name)
        parameters = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
        link = f"{request.url.path}?{urlencode([*parameters, ('cursor', cursor)])}"
        headers["link"] = f'<{link}>; rel="next"'
    items = ",".join([row["item"] for row in shown])
    end = f'"{cursor}"' if cursor else "null"
    total = "" if found.total is None else f',"total":{found.total}'
    return Rendered(f'{{"items":[{items}],"next_cursor":{end}{total}}}', headers=headers)


def collection(rows: Sequence[Any]) -> Rendered[Any]:
    """A list that is given whole."""
    return Rendered(f'{{"items":[{",".join([row["item"] for row in rows])}]}}')


def etag(row_id: UUID | None, version: int) -> str:
    return f'"{row_id}-{version}"'


def check_if_match(if_match: str | None, row_id: UUID | None, version: int) -> None:
    """Raises PreconditionFailed unless the header names this row's version (or is absent or ``*``), BadRequest when
    it is no list of ETags."""
    if if_match is None or if_match.strip() == "*":
        return
    tags = [tag.strip() for tag in if_match.split(",")]
    if not all(_ETAG.fullmatch(tag) for tag in tags):
        fault = Violation('Must be * or ETags in double quotes, as in "…-3".', header="If-Match")
        raise BadRequest("The If-Match header is not valid.", errors=[fault])
    if etag(row_id, version) not in tags:
        raise PreconditionFailed
