"""One log pipeline: ours, uvicorn's, the libraries' and warnings, all through loguru.

Production writes one JSON object a line to standard output; development writes for eyes, to standard error.
"""

import logging
import sys
import traceback
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
from loguru import logger

from service.settings import Settings

if TYPE_CHECKING:
    from loguru import Message, Record

_encoder = msgspec.json.Encoder(enc_hook=str)
_access_lines_are_json = False


def set_up_logging(settings: Settings) -> None:
    """Sends everything that is logged in this process through loguru. Can be called again."""
    global _access_lines_are_json
    _access_lines_are_json = settings.in_production and settings.log_level in ("DEBUG", "INFO")
    logger.remove()
    if settings.in_production:
        logger.add(_write_json, level=settings.log_level, format="{message}", diagnose=False, backtrace=False)
    else:
        # diagnose would print the values of local variables, secrets among them
        logger.add(sys.stderr, level=settings.log_level, format=_for_eyes, diagnose=False, backtrace=False)
    logging.root.handlers = [_ToLoguru()]
    logging.root.setLevel(settings.log_level)
    for name in list(logging.root.manager.loggerDict):
        library = logging.getLogger(name)
        library.handlers = []
        library.propagate = True
    for chatty in ("uvicorn.access", "httpx", "httpcore", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


class _ToLoguru(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        def as_from_library(told: "Record") -> None:
            told["name"], told["function"], told["line"] = record.name, record.funcName, record.lineno

        level = record.levelname if record.levelname in _LEVELS else record.levelno
        logger.patch(as_from_library).opt(exception=record.exc_info).log(level, "{}", record.getMessage())


_LEVELS = {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}


def log_request(message: str, **told: Any) -> None:
    """The access line. Where lines are JSON, it is written at once: a record of loguru's, with all that it knows of the
    caller's frame, process and thread, would cost six times as much, on every request."""
    if _access_lines_are_json:
        line = {
            "time": datetime.now().astimezone().isoformat(),
            "level": "INFO",
            "logger": "access",
            "message": message,
        }
        _write(line | told)
    else:
        logger.bind(**told).info("{}", message)


def _write_json(message: "Message") -> None:
    record = message.record
    line: dict[str, Any] = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "logger": record["name"],
        "message": record["message"],
        **record["extra"],
    }
    if (failure := record["exception"]) and failure.type is not None:
        line["exception"] = "".join(traceback.format_exception(failure.type, failure.value, failure.traceback))
    _write(line)


def _write(line: dict[str, Any]) -> None:
    sys.stdout.buffer.write(_encoder.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _for_eyes(record: "Record") -> str:
    request = " <dim>{extra[request_id]}</dim>" if "request_id" in record["extra"] else ""
    return "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {message}" + request + "\n{exception}"
