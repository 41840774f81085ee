"""OpenTelemetry traces: a span for each request and each of its queries. A thread exports them in batches.

Imported only if OTEL_EXPORTER_OTLP_ENDPOINT is set. The SDK reads the other variables of OpenTelemetry. No provider is
set for other libraries: what they would add to spans is not masked.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager

from loguru import logger
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.log import OncePerMinute
from service.settings import VERSION, settings

_LAST_EXPORT = 3  # seconds; with the 25 for open requests, a stop takes less than the usual 30


class _Lines(logging.Handler):
    """The warnings of the SDK as single lines, one a minute: it has one for each attempt to reach a collector."""

    _bound = OncePerMinute()

    def emit(self, record: logging.LogRecord) -> None:
        if self._bound.count("traces"):
            logger.log(record.levelname, "Traces: {}", record.getMessage().partition("\n")[0])


_resource = Resource.create({"service.name": settings.otel_service_name, "service.version": VERSION})
_provider = TracerProvider(resource=_resource, shutdown_on_exit=False)
_tracer = _provider.get_tracer("service", VERSION)


@asynccontextmanager
async def exported_traces() -> AsyncIterator[None]:
    """Exports the spans of the block. At its end, waits a short time for the last ones. Raises SystemExit if a variable
    of OpenTelemetry is not valid."""
    library = logging.getLogger("opentelemetry")
    library.handlers, library.propagate = [_Lines(logging.WARNING)], False
    try:
        processor = BatchSpanProcessor(OTLPSpanExporter())
    except ValueError as error:
        raise SystemExit(f"The variables OTEL_* are not valid: {error}") from error
    _provider.add_span_processor(processor)
    try:
        yield
    finally:
        export = threading.Thread(target=processor.shutdown, daemon=True)  # it may wait for a collector for 30 s
        export.start()
        await asyncio.to_thread(export.join, _LAST_EXPORT)


def request_span(method: str, headers: dict[str, str]) -> AbstractContextManager[Span]:
    """The span of a request. It continues the trace that the client names in ``headers``, if any."""
    return _tracer.start_as_current_span(
        method,
        context=TraceContextTextMapPropagator().extract(headers),
        kind=SpanKind.SERVER,
        record_exception=False,  # the text of an exception may have anything in it
        set_status_on_exception=False,
    )


@contextmanager
def query_span(name: str) -> Iterator[None]:
    """The span of a query in that of the running request. A query of no request has none."""
    if not get_current_span().is_recording():
        yield
        return
    attributes = {"db.system.name": "postgresql", "db.query.summary": name}
    span = _tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
    try:
        yield
    except BaseException as error:
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(StatusCode.ERROR)
        raise
    finally:
        span.end()
