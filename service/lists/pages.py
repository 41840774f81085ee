"""A page of a list as a response, with the link to the next one."""

from typing import Any
from urllib.parse import urlencode

from litestar import Request

from service.lists.cursors import encode_cursor
from service.lists.listing import Rows
from service.web.responses import Rendered


def page(request: Request[Any, Any, Any], found: Rows, limit: int) -> Rendered[Any]:
    """A page of ``limit`` items. If there are more, it has a cursor and a link to the next page."""
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
