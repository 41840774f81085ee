"""Turns an exception that Litestar did not handle into a problem document."""

from typing import Any

from litestar.types import ASGIApp, Message, Receive, Send

from service.database.failures import without_frames
from service.web.problems import log_failure, raw_problem, to_problem


class Failures:
    """Holds the start of a response until the first part of its body, so that a failure in between can still be
    answered with a problem. A later failure aborts the response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        start: Any = None
        has_begun = False

        async def send_from_first_body(message: Message) -> None:
            nonlocal start, has_begun
            if message["type"] == "http.response.start":
                start = message
                return
            if not has_begun:
                has_begun = True
                await send(start)
            await send(message)

        try:
            await self.app(scope, receive, send_from_first_body)
        except Exception as error:
            if scope["state"].get("is_cut"):  # by SlowReaders: the client is gone, and nothing failed
                raise
            problem = to_problem(error)
            log_failure(error, problem)
            if has_begun:
                raise
            without_frames(error)
            status, headers, body = raw_problem(scope, problem)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})
