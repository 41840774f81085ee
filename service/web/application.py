"""Litestar, except that a failed start says its reason in one line where there is one."""

import sys
from typing import Any

from litestar import Litestar


class Application(Litestar):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(scope, receive, _with_reason(send) if scope["type"] == "lifespan" else send)


def _with_reason(send: Any) -> Any:
    async def send_reason(message: Any) -> None:
        if message["type"] == "lifespan.startup.failed" and (reason := _reason(sys.exception())):
            message["message"] = reason
        await send(message)

    return send_reason


def _reason(error: BaseException | None) -> str | None:
    """The text of a SystemExit, also in a group."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_reason, error.exceptions)), None)
    return str(error) if isinstance(error, SystemExit) else None
