"""Turns errors into responses: problem documents (RFC 9457)."""

from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler
from litestar.types import Scope
from loguru import logger

from service.database.failures import fault_of_deployment, to_service_error, without_frames
from service.errors import (
    PROBLEMS,
    BadRequest,
    InternalError,
    MethodNotAllowed,
    Overloaded,
    Problem,
    QuotaExceeded,
    ServiceError,
    TooLarge,
    Unavailable,
)
from service.log import OncePerMinute

MEDIA_TYPE = "application/problem+json"
_DEPLOYMENT = OncePerMinute()  # such a fault meets every request until an operator has mended it
_BY_STATUS = {kind.status: kind for kind in PROBLEMS.values() if kind is not QuotaExceeded}  # 403 is Forbidden


def to_problem(error: Exception, handler: BaseRouteHandler | None = None) -> ServiceError:
    """The ServiceError for any error, including those of Litestar."""
    if isinstance(error, HTTPException):
        kind = _BY_STATUS.get(HTTPStatus(error.status_code), BadRequest if error.status_code < 500 else InternalError)
        if kind is MethodNotAllowed:
            return MethodNotAllowed(headers={"Allow": ", ".join(allowed((error.headers or {}).get("allow", "")))})
        if (
            kind is TooLarge
            and isinstance(handler, HTTPRouteHandler)
            and (most := handler.resolve_request_max_body_size())
        ):
            return TooLarge.over(most)
        return kind()
    return to_service_error(error)


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The exception handler of the application, for all exceptions."""
    problem = to_problem(error, request.scope.get("route_handler"))
    log_failure(error, problem)
    without_frames(error)
    return Response(
        problem.problem(request.scope), status_code=problem.status, media_type=MEDIA_TYPE, headers=problem.headers
    )


def raw_problem(scope: Scope, error: ServiceError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of ``error``, for middleware in front of Litestar."""
    body = msgspec.json.encode(error.problem(scope))
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **error.headers}
    return error.status, [(name.lower().encode(), value.encode()) for name, value in headers.items()], body


def allowed(methods: str) -> list[str]:
    """The methods of an Allow header, with OPTIONS, and HEAD where GET is allowed."""
    names = {name.strip() for name in methods.split(",") if name.strip()} | {"OPTIONS"}
    return sorted(names | {"HEAD"} if "GET" in names else names)


def log_failure(error: Exception, problem: ServiceError) -> None:
    """Logs an error of the service. Errors of clients are not logged here."""
    if fault := fault_of_deployment(error):
        if times := _DEPLOYMENT.count(fault):
            logger.bind(times=times).error("{}", fault)
    elif isinstance(problem, InternalError):
        logger.opt(exception=error).error("The request failed.")
    elif isinstance(problem, Unavailable) and not isinstance(problem, Overloaded):
        logger.warning("The request could not be served: {!r}", error)
