"""Access lines: their fields, their order, and that none is lost."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from loguru import logger


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """The fields of the lines that were written."""
    lines: list[dict[str, Any]] = []
    sink = logger.add(lambda line: lines.append(line.record["extra"]), level="INFO")
    yield lines
    logger.remove(sink)


def ids(lines: list[dict[str, Any]]) -> list[str]:
    return [line.get("request_id", "-") for line in lines]


async def test_lines_are_written_at_once_and_in_order(stranger: httpx.AsyncClient, lines: list[dict[str, Any]]) -> None:
    sent = [f"number-{number}" for number in range(5)]
    for each in sent:
        await stranger.get("/health/live", headers={"X-Request-ID": each})
    assert ids(lines) == sent


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_request_without_an_answer_is_499(
    stranger: httpx.AsyncClient, lines: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    is_waiting = asyncio.Event()

    async def wait(*_: object) -> None:
        is_waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("service.users.queries.get_user", wait)
    request = asyncio.create_task(stranger.request(method, "/v1/users/anybody"))
    await is_waiting.wait()
    request.cancel()
    await asyncio.wait([request])
    assert [(line["method"], line["path"], line["status"], line["bytes"]) for line in lines] == [
        (method, "/v1/users/anybody", 499, 0)
    ]


async def test_the_fields_of_a_line(stranger: httpx.AsyncClient, lines: list[dict[str, Any]]) -> None:
    sent = [
        await stranger.request(method, path)
        for method, path in (("GET", "/v1/characters"), ("HEAD", "/v1/characters"), ("GET", "/" + "a" * 9_000))
    ]
    assert [(line["method"], line["status"], line["bytes"]) for line in lines] == [
        (answer.request.method, answer.status_code, len(answer.content)) for answer in sent
    ]
    assert [line["route"] for line in lines] == ["/v1/characters", "/v1/characters", "-"]
    assert len(lines[-1]["path"]) == 256
