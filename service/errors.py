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

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec

from service.masking import masked

MAX_VIOLATIONS = 100

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
            instance=masked(scope["path"]),
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
