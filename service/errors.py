"""The errors of the service, and their problem documents (RFC 9457, ``application/problem+json``).

A class has a status; an instance has a detail, a complete sentence for a person.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec

from service.identifiers import masked

MAX_VIOLATIONS = 100

_TITLES = {413: "Content Too Large", 414: "URI Too Long", 422: "Unprocessable Content"}  # Python 3.11 has older ones


class Violation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One fault. `pointer` is a JSON Pointer into the body; `parameter` and `header` are names."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every error response (RFC 9457)."""

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
    meaning: ClassVar[str]  # /problems/<slug> shows it, and the advice
    advice: ClassVar[str]

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
            detail=masked(self.detail),
            instance=masked(scope["path"]),
            request_id=scope.get("state", {}).get("request_id"),
            # A client may send a token as a name
            errors=[Violation(*(t and masked(t) for t in msgspec.structs.astuple(one))) for one in self.errors] or None,
        )


class BadRequest(ServiceError):
    status = HTTPStatus.BAD_REQUEST
    slug = "bad-request"
    meaning = "The request is malformed: its body is not valid JSON, or a parameter or header is not valid."
    advice = (
        "Read the detail and the errors: they name the position in the body, the parameter or the header. "
        "Correct it and send the request again."
    )

    @classmethod
    def of(cls, errors: Iterable[Violation]) -> "BadRequest":
        return cls("The request's parameters are not valid.", errors=errors)

    @classmethod
    def missing_body(cls) -> "BadRequest":
        detail = "The body is missing."
        return cls(detail, errors=[Violation(detail, pointer="")])


class Unauthorized(ServiceError):
    status = HTTPStatus.UNAUTHORIZED
    slug = "unauthorized"
    meaning = "This request needs a valid token: sign in and send 'Authorization: Bearer <token>'."
    advice = (
        "Sign in with POST /v1/sessions, or use an API key. A token is no longer valid when it has expired "
        "or was revoked."
    )

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"})


class QuotaExceeded(ServiceError):
    status = HTTPStatus.FORBIDDEN
    slug = "quota-exceeded"
    meaning = "The request would exceed a quota of the caller. GET /v1/users/me/usage shows what is used."
    advice = (
        "Delete what is no longer needed. Characters in the trash count until they are purged with DELETE "
        "/v1/trash/{id}."
    )


class Forbidden(ServiceError):
    status = HTTPStatus.FORBIDDEN
    slug = "forbidden"
    meaning = "The token is valid, but does not allow this request."
    advice = (
        "Read the detail: it names what is missing, such as a scope, a session, the current password or the ownership."
    )


class NotFound(ServiceError):
    status = HTTPStatus.NOT_FOUND
    slug = "not-found"
    meaning = "The resource does not exist, or the caller may not see it."
    advice = "Check the path and what the errors name. If the resource is private, send the token of its owner."


class MethodNotAllowed(ServiceError):
    status = HTTPStatus.METHOD_NOT_ALLOWED
    slug = "method-not-allowed"
    meaning = "This URL does not support this method. The Allow header lists the supported ones."
    advice = "Use one of the methods in the Allow header."


class RequestTimeout(ServiceError):
    status = HTTPStatus.REQUEST_TIMEOUT
    slug = "request-timeout"
    meaning = "The request did not arrive in time. Send it again."
    advice = "Send the request again, on a faster connection or with a smaller body."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Connection": "close"})  # else the server would read the rest of the body


class Conflict(ServiceError):
    status = HTTPStatus.CONFLICT
    slug = "conflict"
    meaning = "The request conflicts with existing data."
    advice = (
        "Read the detail and the errors: they name the data in conflict. Choose another value, or change the "
        "existing data first."
    )


class PreconditionFailed(ServiceError):
    status = HTTPStatus.PRECONDITION_FAILED
    slug = "precondition-failed"
    meaning = "The resource has changed since the version in If-Match. Read it again, then repeat the change."
    advice = "Read the resource again, apply the change to the new version, and send its ETag as If-Match."


class TooLarge(ServiceError):
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    slug = "too-large"
    meaning = "The request's body is larger than this URL accepts."
    advice = "Send a smaller body. The detail names the limit. Split an import or a bulk request into several."

    @classmethod
    def over(cls, bytes_allowed: int) -> "TooLarge":
        detail = f"The request's body may have at most {bytes_allowed // 1024**2} MiB."
        return cls(detail, errors=[Violation(detail, pointer="")])


class UrlTooLong(ServiceError):
    status = HTTPStatus.REQUEST_URI_TOO_LONG
    slug = "url-too-long"
    meaning = "The request's URL is too long. Shorten the query string."
    advice = "Shorten the query string, or split the request into several."


class UnsupportedMediaType(ServiceError):
    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    slug = "unsupported-media-type"
    meaning = "This URL does not accept bodies of this Content-Type or Content-Encoding."
    advice = "Send a body of a type that the detail names, without compression."

    @classmethod
    def of(cls, detail: str, headers: Mapping[str, str] | None = None) -> "UnsupportedMediaType":
        """For the Content-Type of a request."""
        return cls(detail, errors=[Violation(detail, header="Content-Type")], headers=headers)


class Unprocessable(ServiceError):
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "validation"
    meaning = "The content of the body is not valid. 'errors' lists the faults, each with its position."
    advice = "Correct the fields that the errors name, and send the request again. Nothing was stored."

    @classmethod
    def of(cls, errors: Iterable[Violation]) -> "Unprocessable":
        found = list(errors)
        return cls("The body has 1 fault." if len(found) == 1 else f"The body has {len(found)} faults.", errors=found)


class FailedDependency(ServiceError):
    status = HTTPStatus.FAILED_DEPENDENCY
    slug = "failed-dependency"
    meaning = "This operation had no effect because another operation of the same atomic request failed."
    advice = "Correct the operation that failed, and send the whole request again."


class TooManyRequests(ServiceError):
    status = HTTPStatus.TOO_MANY_REQUESTS
    slug = "too-many-requests"
    meaning = "Too many requests. Retry-After is the number of seconds to wait."
    advice = (
        "Wait for the seconds that the Retry-After header names. RateLimit-Remaining shows how many requests are left."
    )


class HeadersTooLarge(ServiceError):
    status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    slug = "headers-too-large"
    meaning = "The request has too many headers, or they are too large."
    advice = "Send fewer or shorter headers. Large cookies are a frequent cause."


class InternalError(ServiceError):
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    slug = "internal"
    meaning = "The service failed to handle the request. The error was logged with the request id."
    advice = "Try again later. If the problem remains, tell the operator of the server the request_id."


class Unavailable(ServiceError):
    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "unavailable"
    meaning = "The service is temporarily unavailable. Retry-After is the number of seconds to wait."
    advice = "Send the request again after the seconds that the Retry-After header names."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "1"})


class Overloaded(Unavailable):
    """The worker has too many requests. Same problem as Unavailable, but counted instead of logged."""


PROBLEMS: dict[str, type[ServiceError]] = {kind.slug: kind for kind in ServiceError.__subclasses__()}
