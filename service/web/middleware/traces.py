"""The span of each request, and the id of its trace for the log."""

from collections.abc import Awaitable
from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send
from opentelemetry.trace import Span, StatusCode, format_trace_id

from service.identifiers import masked
from service.traces import request_span
from service.web.middleware.access_log import NO_RESPONSE
from service.web.middleware.headers import request_header

_CONTEXT = ("traceparent", "tracestate")


class Traces:
    """Sets ``state["trace_id"]``, also if the trace is not sampled."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        method, status = scope["method"], NO_RESPONSE

        def send_and_note(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        given = {name: value.decode("latin-1") for name in _CONTEXT if (value := request_header(scope, name.encode()))}
        with request_span(method, given) as span:
            if (context := span.get_span_context()).is_valid:
                scope["state"]["trace_id"] = format_trace_id(context.trace_id)
            try:
                await self.app(scope, receive, send_and_note)
            finally:
                if span.is_recording():
                    _describe(span, scope, method, status)


def _describe(span: Span, scope: Any, method: str, status: int) -> None:
    attributes = {
        "http.request.method": method,
        "http.response.status_code": status,
        "url.path": masked(scope["path"]),  # without the query, which may have anything in it
        "url.scheme": scope["scheme"],
        "request_id": scope["state"]["request_id"],
    }
    if route := scope.get("path_template"):
        span.update_name(f"{method} {route}")
        attributes["http.route"] = route
    span.set_attributes(attributes)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
