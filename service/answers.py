"""Answers whose JSON PostgreSQL has rendered: it goes out untouched."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from litestar import Request

from service.errors import BadRequest, PreconditionFailed, Violation
from service.listing import Rows
from service.paging import encode_cursor
from service.routes import Rendered

_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


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
