"""What can go wrong, and how it is told (RFC 9457, ``application/problem+json``).

ServiceError
├── BadRequest 400             ├── UrlTooLong 414
├── Unauthorized 401           ├── UnsupportedMediaType 415
├── Forbidden 403              ├── Unprocessable 422
├── NotFound 404               ├── FailedDependency 424
├── MethodNotAllowed 405       ├── TooManyRequests 429
├── RequestTimeout 408         ├── HeadersTooLarge 431
├── Conflict 409               ├── InternalError 500
├── PreconditionFailed 412     └── Unavailable 503
└── TooLarge 413                   └── Overloaded

A class carries its status; an instance one complete sentence for a person. Raised in ``queries``, told here.
"""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import asyncpg
import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.params import ParameterKwarg
from litestar.types import Scope
from loguru import logger

MEDIA_TYPE = "application/problem+json"
MAX_VIOLATIONS = 100

# What msgspec says of a value that it refuses
_LENGTH = re.compile(r"Expected `(str|array|object)` of length ([<>]=) (\d+)")
_RANGE = re.compile(r"Expected `(?:int|float)` ([<>]=?) (-?[\d.]+)")
_KINDS = re.compile(r"Expected `([^`]+)`, got `([^`]+)`")
_WORDS = {
    "str": "a string", "int": "an integer", "float": "a number", "bool": "true or false", "array": "a list",
    "object": "an object", "null": "null", "uuid": "a UUID", "datetime": "a time (RFC 3339, with its zone)",
}  # fmt: skip

_TITLES = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}  # Python 3.11 has older ones


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
        return _TITLES.get(cls.status, cls.status.phrase)

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


class RequestTimeout(ServiceError):
    status = HTTPStatus.REQUEST_TIMEOUT
    slug = "request-timeout"
    meaning = "The request's body did not come in time: send it again, faster."

    def __init__(self) -> None:
        super().__init__(headers={"Connection": "close"})  # or the rest of it would still be read


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


class UrlTooLong(ServiceError):
    status = HTTPStatus.REQUEST_URI_TOO_LONG
    slug = "url-too-long"
    meaning = "The request's URL is longer than any that this service has: put less into the query."


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


class FailedDependency(ServiceError):
    status = HTTPStatus.FAILED_DEPENDENCY
    slug = "failed-dependency"
    meaning = "Nothing is wrong with this operation, but it is not done: another one of the same atomic request failed."


class TooManyRequests(ServiceError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "too-many-requests"
    meaning = "Too many requests in too short a time: wait as long as Retry-After says (in seconds)."


class HeadersTooLarge(ServiceError):
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    slug = "headers-too-large"
    meaning = "The request's headers are too many or too large."


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


class Overloaded(Unavailable):
    """More to do than this worker can; told like Unavailable, but not logged again for each: it is counted."""


PROBLEMS: dict[str, type[ServiceError]] = {kind.slug: kind for kind in ServiceError.__subclasses__()}
_BY_STATUS = {kind.status: kind for kind in PROBLEMS.values()}

# A connection that broke, a server that stops or starts, a time-out of ours: the same request may succeed in a second.
_PASSING = (
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.TransactionRollbackError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


def told(error: Exception, handler: BaseRouteHandler | None = None) -> ServiceError:
    """The ServiceError that tells ``error`` to a client: never more than the client may know."""
    if isinstance(error, ExceptionGroup):  # a streamed answer has tasks of its own
        return told(error.exceptions[0], handler)
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, ValidationException):
        return _parameters_refused(error, handler)
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
    problem = told(error, request.scope.get("route_handler"))
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
    elif isinstance(problem, Unavailable) and not isinstance(problem, Overloaded):
        logger.warning("The request could not be served: {!r}", error)


def sent_name(handler: BaseRouteHandler, argument: str) -> str:
    """What a client calls the ``argument`` of a handler: ``from``, where Python needs another word."""
    field = handler.parsed_fn_signature.parameters.get(argument)
    definition = field.kwarg_definition if field else None
    return (isinstance(definition, ParameterKwarg) and definition.name) or argument


def sentence(message: str) -> str:
    """msgspec's message as a sentence for the person who fills in the form."""
    message = message.split(" - at `")[0]
    if found := _LENGTH.match(message):
        kind, side, bound = found.groups()
        noun = {"str": "character", "array": "item", "object": "member"}[kind] + ("s" if bound != "1" else "")
        return f"Must {'be' if kind == 'str' else 'have'} at {'most' if side == '<=' else 'least'} {bound} {noun}."
    if found := _RANGE.match(message):
        side, bound = found.groups()
        words = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}[side]
        return f"Must be {words} {bound}."
    if found := _KINDS.match(message):
        wanted, got = (" or ".join(_WORDS.get(kind, kind) for kind in part.split(" | ")) for part in found.groups())
        return f"Must be {wanted}, not {got}."
    if message.startswith("Invalid "):
        message = message.replace("Invalid", "Is not a valid", 1)
    return message.replace("`", "'").rstrip(".") + "."


def _parameters_refused(error: ValidationException, handler: BaseRouteHandler | None) -> BadRequest:
    found = [fault for fault in error.extra if isinstance(fault, dict)] if isinstance(error.extra, list) else []
    if any(fault.get("source") == "body" for fault in found):  # what a body holds is judged by bodies.py
        return BadRequest("The body is missing.")
    faults = [_parameter_violation(fault, handler) for fault in found]
    return BadRequest("The request's parameters are not valid.", errors=faults)


def _parameter_violation(fault: Mapping[str, Any], handler: BaseRouteHandler | None) -> Violation:
    detail = sentence(str(fault.get("message", ""))).replace(", not a string", "")  # which all parameters are
    argument = str(fault.get("key", ""))
    name = sent_name(handler, argument) if handler else argument
    return Violation(detail, header=name) if fault.get("source") == "header" else Violation(detail, parameter=name)
