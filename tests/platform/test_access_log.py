"""Access lines are written in batches, in order, soon and completely."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from loguru import logger

from service.log import ACCESS_LINES_WAIT, AccessLine, access_log, log_request

LINE = AccessLine(
    time=datetime.now(UTC),
    message="GET /v1/somewhere 200 in 1.0 ms",
    request_id="the-last-one",
    method="GET",
    path="/v1/somewhere",
    route="/v1/somewhere",
    status=200,
    milliseconds=1.0,
    bytes=2,
    client="127.0.0.1",
)


@pytest.fixture
def written() -> Iterator[list[str]]:
    """The request ids of the written lines."""
    ids: list[str] = []
    sink = logger.add(lambda line: ids.append(line.record["extra"].get("request_id", "-")), level="INFO")
    yield ids
    logger.remove(sink)


async def test_lines_are_written_in_order_and_soon(stranger: httpx.AsyncClient, written: list[str]) -> None:
    ids = [f"number-{number}" for number in range(5)]
    for each in ids:
        await stranger.get("/health/live", headers={"X-Request-ID": each})
    await asyncio.sleep(2 * ACCESS_LINES_WAIT)
    assert written == ids


async def test_waiting_lines_are_written_when_the_service_ends(app: None, written: list[str]) -> None:
    async with access_log():
        log_request(LINE)
        assert written == []
    assert written == ["the-last-one"]
