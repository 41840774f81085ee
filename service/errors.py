"""What can go wrong, and how it is told (RFC 9457, ``application/problem+json``).

ServiceError
├── BadRequest 400             ├── TooLarge 413
├── Unauthorized 401           ├── UnsupportedMediaType 415
├── Forbidden 403              ├── Unprocessable 422
├── NotFound 404               ├── TooManyRequests 429
├── MethodNotAllowed 405       ├── InternalError 500
├── Conflict 409               └── Unavailable 503
└── PreconditionFailed 412

A class carries its status; an instance one complete sentence for a person. Raised in ``queries``, told here.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import asyncpg
import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import Scope
from loguru import logger

MEDIA_TYPE = "application/problem+json"
MAX_VIOLATIONS = 100


class Violation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault, at a JSON Pointer into the body or in a named parameter or header."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every answer from 400 on."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    request_id: str | None = None
    errors: list[Violation] | None = None


class ServiceError(Exception):
    status: ClassVar[HTTPStatus]
    slug: ClassVar[str]
    meaning: ClassVar[str]  # the text of /problems/<slug>

    def __init__(
        self, detail: str = "", *, errors: Iterable[Violation] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        self.detail = detail or self.meaning
        self.errors = list(errors)[:MAX_VIOLATIONS]
        self.headers = dict(headers or {})
        super().__init__(self.detail)

    @classmethod
    def title(cls) -> str:
        return {413: "Content Too Large", 422: "Unprocessable Content"}.get(cls.status, cls.status.phrase)

    def problem(self, scope: Mapping[str, Any]) -> Problem:
        return Problem(
            type=f"/problems/{self.slug}",
            title=self.title(),
            status=self.status,
            detail=self.detail,
            instance=scope["path"],
            request_id=scope.get("state", {}).get("request_id"),
            errors=self.errors or None,
        )


class BadRequest(ServiceError):
    status = HTTPStatus.BAD_REQUEST
    slug = "bad-request"
    meaning = "The request cannot be read: its body is not JSON, or a parameter or header is malformed."


class Unauthorized(ServiceError):
    status = HTTPStatus.UNAUTHORIZED
    slug = "unauthorized"
    meaning = "Who is calling is not known: sign in and send 'Authorization: Bearer <token>'."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class Forbidden(ServiceError):
    status = HTTPStatus.FORBIDDEN
    slug = "forbidden"
    meaning = "The caller is known, but may not do this with this token."


class NotFound(ServiceError):
    status = HTTPStatus.NOT_FOUND
    slug = "not-found"
    meaning = "There is nothing here, or nothing that the caller may see."


class MethodNotAllowed(ServiceError):
    status = HTTPStatus.METHOD_NOT_ALLOWED
    slug = "method-not-allowed"
    meaning = "This address does not answer to this method; the Allow header lists those it does."


class Conflict(ServiceError):
    status = HTTPStatus.CONFLICT
    slug = "conflict"
    meaning = "The request clashes with what is there already."


class PreconditionFailed(ServiceError):
    status = HTTPStatus.PRECONDITION_FAILED
    slug = "precondition-failed"
    meaning = "The resource has changed since the version named by If-Match: read it again, then repeat the change."


class TooLarge(ServiceError):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "too-large"
    meaning = "The request's body is larger than this address accepts."


class UnsupportedMediaType(ServiceError):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-media-type"
    meaning = "The request's body is of a kind that this address does not read: see its Content-Type."


class Unprocessable(ServiceError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "validation"
    meaning = "The body can be read, but its content is not valid: 'errors' lists every fault with its place."

    @classmethod
    def of(cls, errors: Iterable[Violation]) -> "Unprocessable":
        found = list(errors)
        return cls("1 field is not valid." if len(found) == 1 else f"{len(found)} fields are not valid.", errors=found)


class TooManyRequests(ServiceError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "too-many-requests"
    meaning = "Too many requests in too short a time: wait as long as Retry-After says (in seconds)."


class InternalError(ServiceError):
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    slug = "internal"
    meaning = "Something failed on our side. It has been recorded under the request's id."


class Unavailable(ServiceError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "unavailable"
    meaning = "The service cannot answer right now: repeat the request after Retry-After (in seconds)."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


PROBLEMS: dict[str, type[ServiceError]] = {kind.slug: kind for kind in ServiceError.__subclasses__()}
_BY_STATUS = {kind.status: kind for kind in PROBLEMS.values()}

# A connection that broke, a server that stops or starts, a time-out of ours: the same request may succeed in a second.
_PASSING = (
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.TransactionRollbackError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


def told(error: Exception) -> ServiceError:
    """The ServiceError that tells ``error`` to a client: never more than the client may know."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, ValidationException):
        return BadRequest("The request's parameters are not valid.", errors=_parameter_violations(error))
    if isinstance(error, HTTPException):
        kind = _BY_STATUS.get(HTTPStatus(error.status_code), BadRequest if error.status_code < 500 else InternalError)
        if kind is MethodNotAllowed:
            return MethodNotAllowed(headers={"Allow": ", ".join(allowed((error.headers or {}).get("allow", "")))})
        return kind()
    if isinstance(error, _PASSING):
        return Unavailable()
    if isinstance(error, asyncpg.DataError):
        return BadRequest("The request holds a value that cannot be stored.")
    return InternalError()


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Litestar's exception handler for everything."""
    problem = told(error)
    record(error, problem)
    return Response(
        problem.problem(request.scope), status_code=problem.status, media_type=MEDIA_TYPE, headers=problem.headers
    )


def raw_problem(scope: Scope, error: ServiceError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of ``error``, for what answers in front of Litestar."""
    body = msgspec.json.encode(error.problem(scope))
    headers = {"content-type": MEDIA_TYPE, "content-length": str(len(body)), **error.headers}
    return error.status, [(name.lower().encode(), value.encode()) for name, value in headers.items()], body


def allowed(methods: str) -> list[str]:
    """The methods of an Allow header, with those that are answered wherever others are."""
    names = {name.strip() for name in methods.split(",") if name.strip()} | {"OPTIONS"}
    return sorted(names | {"HEAD"} if "GET" in names else names)


def record(error: Exception, problem: ServiceError) -> None:
    """Logs a failure of ours, once, at the boundary; a client's mistake is its own affair."""
    if isinstance(problem, InternalError):
        logger.opt(exception=error).error("The request failed.")
    elif isinstance(problem, Unavailable):
        logger.warning("The request could not be served: {!r}", error)


def _parameter_violations(error: ValidationException) -> list[Violation]:
    found = error.extra if isinstance(error.extra, list) else []
    return [
        Violation(
            detail=str(fault.get("message", "Is not valid.")),
            **{"header" if fault.get("source") == "header" else "parameter": str(fault.get("key", ""))},
        )
        for fault in found
        if isinstance(fault, dict)
    ]
