"""Logging through loguru, for the service, uvicorn, the other libraries and Python's warnings.

Production writes lines of JSON to standard output, development writes coloured text to standard error.
"""

import asyncio
import logging
import math
import re
import sys
import time
import traceback
from collections import Counter
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from loguru import logger
from msgspec import UNSET, UnsetType

from service.identifiers import masked
from service.settings import Settings, settings

if TYPE_CHECKING:
    from loguru import Message, Record

# The ASGI scope of the current request, for log lines and the audit log; None outside of requests. Never used for
# authorization.
REQUEST: ContextVar[Any] = ContextVar("REQUEST", default=None)

_encoder = msgspec.json.Encoder(enc_hook=str)
_access_lines: list["AccessLine"] = []  # of this turn of the event loop
_access_lines_are_json = False
_is_command = False
_IDS = {"request_id", "trace_id"}


def set_up_logging(settings: Settings, *, of_command: bool = False) -> None:
    """Sends all logging of this process through loguru. May be called repeatedly. The lines of a command go to standard
    error, beside its output."""
    global _access_lines_are_json, _is_command
    _is_command = of_command
    _access_lines_are_json = settings.in_production and settings.log_level in ("DEBUG", "INFO")
    logger.remove()
    logger.configure(patcher=_complete)
    if settings.in_production:
        logger.add(_write_json, level=settings.log_level, format="{message}", diagnose=False, backtrace=False)
    else:
        # diagnose would print the values of local variables, which may be secrets
        logger.add(sys.stderr, level=settings.log_level, format=_development_format, diagnose=False, backtrace=False)
    logging.root.handlers = [_ToLoguru()]
    logging.root.setLevel(settings.log_level)
    for name in list(logging.root.manager.loggerDict):
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = True
    for verbose in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(verbose).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").propagate = False  # else uvicorn formats a line for each request and drops it
    logging.captureWarnings(capture=True)


def handler() -> logging.Handler:
    """For ``deploy/log.json``: uvicorn's own process, which starts the workers, writes lines like theirs."""
    set_up_logging(settings)
    return _ToLoguru()


class _ToLoguru(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        def set_origin(line: "Record") -> None:
            line["name"], line["function"], line["line"] = record.name, record.funcName, record.lineno

        level = record.levelname if record.levelname in _LEVELS else record.levelno
        message, failure = record.getMessage(), record.exc_info
        if failure and record.name in _WITHOUT_TRACEBACKS:
            message, failure = f"{message.rstrip('.')}: {failure[1]!r}", None
        logger.patch(set_origin).opt(exception=failure).log(level, "{}", message)


_WITHOUT_TRACEBACKS = {"asyncpg.pool"}  # while PostgreSQL is away, its reason says all
_LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}


class AccessLine(msgspec.Struct, kw_only=True):
    """The log line of a request; its fields are written in this order."""

    time: datetime
    level: str = "INFO"
    logger: str = "access"
    message: str
    request_id: str
    trace_id: str | UnsetType = UNSET
    method: str
    path: str
    route: str
    status: int
    milliseconds: float
    bytes: int
    client: str


def log_request(line: AccessLine) -> None:
    """JSON lines bypass loguru: its records, with frame, process and thread, cost six times as much. Lines of the same
    turn of the event loop are written at once: under load that saves 4 of the 90 microseconds of reading one by id."""
    if _access_lines_are_json:
        _access_lines.append(line)
        if len(_access_lines) == 1:
            asyncio.get_running_loop().call_soon(_write_access_lines)
    else:
        logger.bind(**msgspec.to_builtins(line)).info("{}", _escape(line.message).replace("\n", "\\n"))


def _write_access_lines() -> None:
    lines = _access_lines.copy()
    _access_lines.clear()  # before anything can fail: a line that cannot be written must not keep later ones back
    _write(_encoder.encode_lines(lines))


class OncePerMinute:
    """Bounds lines that may be many."""

    def __init__(self) -> None:
        self._held = Counter[str]()
        self._next: dict[str, float] = {}

    def count(self, key: str) -> int:
        """How many lines of the key there were since the last one that passed, with this one; 0 if it must not pass."""
        self._held[key] += 1
        now = time.monotonic()
        if now < self._next.get(key, -math.inf):
            return 0
        self._next[key] = now + 60
        return self._held.pop(key)


def _complete(record: "Record") -> None:
    """Adds the ids of the request and of its trace, and masks tokens, except in what is logged with
    ``unmasked=True``."""
    if not record["extra"].pop("unmasked", False):
        record["message"] = masked(record["message"])
    if (scope := REQUEST.get()) is not None:
        for name in _IDS & scope["state"].keys():
            record["extra"].setdefault(name, scope["state"][name])


def _write_json(message: "Message") -> None:
    record = message.record
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(record["time"].timestamp(), UTC),  # msgspec does not know loguru's own class
        "level": record["level"].name,
        "logger": record["name"],
        "message": record["message"],
        **record["extra"],
    }
    if (failure := record["exception"]) and failure.type is not None:
        line["exception"] = masked(_traceback(failure))
    try:
        encoded = _encoder.encode(line)
    except UnicodeEncodeError:  # a lone surrogate: JSON cannot hold it
        encoded = _encoder.encode(
            {key: _escape(value) if isinstance(value, str) else value for key, value in line.items()}
        )
    _write(encoded + b"\n")


def _traceback(failure: Any) -> str:
    return "".join(traceback.format_exception(failure.type, failure.value, failure.traceback))


def _write(line: bytes) -> None:
    stream = sys.stderr if _is_command else sys.stdout  # read now: tests replace them
    stream.buffer.write(line)
    stream.buffer.flush()


def _development_format(record: "Record") -> str:
    """Escapes control characters, and indents each line after the first: a client could invent lines otherwise."""
    text = record["message"]
    if (failure := record["exception"]) and failure.type is not None:
        text += "\n" + masked(_traceback(failure)).rstrip()
    record["message"] = _escape(text).replace("\n", "\n    ")
    request = " <dim>{extra[request_id]}</dim>" if "request_id" in record["extra"] else ""
    return "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {message}" + request + "\n"


def _escape(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


# Characters that control a terminal or the direction of its text, and lone surrogates; without the line feed
_UNPRINTABLE = re.compile(
    "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)
