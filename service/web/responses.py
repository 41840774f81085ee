"""Responses whose JSON was rendered by PostgreSQL and is sent unchanged."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from litestar import Response
from litestar.types import Receive, Send

from service.etags import etag

T = TypeVar("T")


class Rendered(Response[Any], Generic[T]):
    """A body that is already JSON, documented as a ``T``. It inherits from Response only for its type."""

    def __init__(self, body: str | bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.rendered = body.encode() if isinstance(body, str) else body
        self.status = status
        self.extra_headers = headers or {}

    async def answer(self, scope: Any, receive: Receive, send: Send) -> None:
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.extra_headers.items()]
        headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(self.rendered))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.rendered, "more_body": False})


def resource(row: Any, *, created_at: str | None = None) -> Rendered[Any]:
    """The response for a row of (id, version, item), with its ETag. ``created_at`` is the URL of a new resource."""
    headers = {"etag": etag(row["id"], row["version"])}
    if created_at is None:
        return Rendered(row["item"], headers=headers)
    return Rendered(row["item"], status=201, headers=headers | {"location": created_at})


def created(row: Any, location: str) -> Rendered[Any]:
    """The response for a new resource that has no versions."""
    return Rendered(row["item"], status=201, headers={"location": location})


def collection(rows: Sequence[Any]) -> Rendered[Any]:
    """A complete list, without pages."""
    return Rendered(f'{{"items":[{",".join([row["item"] for row in rows])}]}}')
