import asyncio
from typing import Annotated

from litestar import Controller
from litestar.enums import MediaType
from litestar.params import HeaderParameter

from service.callers import Caller
from service.changes import queries
from service.changes.live import follow
from service.changes.schemas import ChangePage, ChangeQuery
from service.changes.streams import opened
from service.errors import BadRequest, Violation
from service.limits.budget import clients_of
from service.limits.rate_limits import address_of
from service.parameters import CURSOR_LENGTH
from service.web.accept import accepted_types
from service.web.event_stream import EVENT_STREAM, EventStream
from service.web.guards import READ_CHARACTERS, CurrentUser
from service.web.middleware.rate_limit import Cost
from service.web.openapi_content import EventStreamOperation
from service.web.requests import StrictRequest
from service.web.responses import Rendered
from service.web.routes import get

LastEventId = Annotated[
    str | None,
    HeaderParameter(
        name="Last-Event-ID",
        description="Continues a stream behind this event. It takes precedence over `after`.",
        schema_extra={"maxLength": CURSOR_LENGTH},
    ),
]


class ChangeController(Controller):
    path = "/changes"
    tags = ("Changes",)

    @get("/", guards=[READ_CHARACTERS], operation_class=EventStreamOperation, middleware=[Cost(2)])
    async def list_changes(
        self, request: StrictRequest[ChangeQuery], user: CurrentUser, last_event_id: LastEventId = None
    ) -> Rendered[ChangePage]:
        """List the changes of your characters, templates and relationships.

        `kind` selects the kinds, by default characters. An API key also needs the scope `templates:read` for templates.
        Without `after` the list starts with the oldest change. Each resource appears once, as it is now, in the order
        of the last changes. To keep a copy up to date, send `next_cursor` as `after` in the next request: no change is
        skipped. A page of large resources has fewer than `limit`; you have read all changes when a page has none.
        Deletions stay in the list for 30 days, so a cursor older than 29 days is refused with 400. Then read the list
        again from the start, and delete from your copy everything that is not in it.

        `Accept: text/event-stream` streams the same items as server-sent events, those of now and each later change.
        The event id is a cursor: `Last-Event-ID` or `after` continues. An event `complete` with `next_cursor` says that
        everything until now was sent. `limit` has no effect on a stream.
        """
        query = request.parameters
        if accepted_types(request.scope).best_match([MediaType.JSON, EVENT_STREAM]) == EVENT_STREAM:
            feed = await _feed(user, query, last_event_id)
            end, address = asyncio.Event(), address_of(request.scope)
            return EventStream(follow(feed, clients_of(request.scope)), end, opened(user, address, end))
        items, cursor = await queries.list_changes(user, query.kind, query.limit, query.after)
        body = f'{{"items":[{",".join(items)}],"next_cursor":"{cursor}"}}'
        return Rendered(body, headers={"Vary": "Accept"})


async def _feed(user: Caller, query: ChangeQuery, last_event_id: str | None) -> queries.Feed:
    if not last_event_id:
        return await queries.Feed.after(user, query.kind, query.after)
    try:
        return await queries.Feed.after(user, query.kind, last_event_id)
    except BadRequest as error:
        faults = [Violation(fault.detail, header="Last-Event-ID") for fault in error.errors]
        raise BadRequest(error.detail, errors=faults) from None
