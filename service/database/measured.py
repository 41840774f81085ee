"""The time that each query takes: slow ones are logged, and with traces each has a span."""

import math
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TypeVar

from loguru import logger

from service.log import OncePerMinute
from service.settings import settings

span: Callable[[str], AbstractContextManager[None]] | None = None  # of a query, by its name; None without traces
if settings.otel_exporter_otlp_endpoint:
    from service.traces import query_span

    span = query_span

_SLOW = settings.slow_query_seconds or math.inf
_LINES = OncePerMinute()
_TABLE = re.compile(r'\b(?:FROM|INTO|UPDATE|TABLE)\s+"?([A-Za-z_]+)')

_T = TypeVar("_T")


async def measured(name: str, query: Awaitable[_T]) -> _T:
    """Runs the query. A slow one is logged once a minute by its name, never with its values."""
    started = time.perf_counter()
    try:
        if span is None:
            return await query
        with span(name):
            return await query
    finally:
        if (seconds := time.perf_counter() - started) >= _SLOW and (times := _LINES.count(name)):
            logger.bind(query=name, seconds=round(seconds, 3), times=times).warning(
                "The query {} took {:.3f} s.", name, seconds
            )


@lru_cache(maxsize=500)
def summary(sql: str) -> str:
    """A name for a query that has none, such as ``UPDATE users``."""
    table = _TABLE.search(sql)
    return f"{sql.split(maxsplit=1)[0]} {table[1] if table else ''}".rstrip()
