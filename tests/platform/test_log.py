"""Log lines: no text from a client ends a line, changes a terminal, or makes a line of JSON invalid."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import quote

import httpx
import msgspec
import pytest
from loguru import logger

from service.log import set_up_logging
from service.settings import settings

HOSTILE = {
    "line feed": "\n",
    "carriage return": "\r",
    "escape": "\x1b[2J",
    "escape of 8 bits": "\x9b2J",
    "NUL": "\0",
    "backspace": "\b",
    "tab": "\t",
    "delete": "\x7f",
    "next line": "\x85",
    "line separator": "\u2028",
    "right to left": "\u202e",
    "isolate": "\u2066",
    "quote": '"',
    "backslash": "\\",
    "braces": "{extra}{",
    "markup": "<red>",
}


@contextmanager
def written(monkeypatch: pytest.MonkeyPatch, environment: str) -> Iterator[list[str]]:
    """The lines that are written in the block: the messages in production, and whole lines in development."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    lines: list[str] = []
    with monkeypatch.context() as patch:  # not in a fixture: pytest sets both streams anew for the test itself
        patch.setattr("sys.stdout" if environment == "production" else "sys.stderr", stream)
        set_up_logging(msgspec.structs.replace(settings, environment=environment, log_level="INFO"))
        yield lines
    set_up_logging(settings)
    stream.flush()
    stream.seek(0)
    *found, rest = stream.read().split("\n")
    assert rest == ""
    if environment == "production":
        lines += [json.loads(line)["message"] for line in found]
    else:
        assert [character for line in found for character in line if not character.isprintable()] == []
        lines += found


@pytest.mark.parametrize("environment", ["development", "production"])
@pytest.mark.parametrize("kind", HOSTILE)
async def test_a_path_stays_on_its_line(
    stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, environment: str, kind: str
) -> None:
    path = f"/nowhere{HOSTILE[kind]}12:00:00.000 INFO invented"
    with written(monkeypatch, environment) as lines:
        await stranger.get(f"http://localhost{quote(path)}")
        await asyncio.sleep(0)  # access lines of one turn of the event loop are written together
    [line] = lines
    assert "GET /nowhere" in line
    assert "12:00:00.000 INFO invented 404" in line
    if environment == "production":
        assert path in line


@pytest.mark.parametrize("environment", ["development", "production"])
@pytest.mark.parametrize("kind", [*HOSTILE, "surrogate"])
def test_an_error_invents_no_line(monkeypatch: pytest.MonkeyPatch, environment: str, kind: str) -> None:
    text = f"before{HOSTILE.get(kind, chr(0xD800))}after"
    with written(monkeypatch, environment) as lines:
        try:
            raise ValueError(text)
        except ValueError as error:
            logger.bind(given=text).opt(exception=error).error("It failed: {}", text)
    first, *others = lines
    assert "It failed: before" in first
    assert all(line.startswith("    ") for line in others)


def test_all_times_have_one_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the access log, which bypasses loguru, and of all other lines."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", stream)
        set_up_logging(msgspec.structs.replace(settings, environment="production", log_level="INFO"))
        logger.info("A line.")
    set_up_logging(settings)
    stream.seek(0)
    (time,) = (json.loads(line)["time"] for line in stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", time)
    assert msgspec.json.encode(datetime.now(UTC)).decode()[-2:] == 'Z"', "as msgspec writes an AccessLine"


def test_a_pool_that_cannot_connect_logs_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with written(monkeypatch, "development") as lines:
        try:
            raise ConnectionRefusedError(111, "Connection refused")
        except OSError as error:
            logging.getLogger("asyncpg.pool").warning("Failed to restore the pool connection.", exc_info=error)
    (line,) = lines
    assert "Failed to restore the pool connection: ConnectionRefusedError(111, 'Connection refused')" in line
