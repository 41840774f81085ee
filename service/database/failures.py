"""Turns errors of PostgreSQL and of the system into errors of the service."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import TypeVar

import asyncpg

from service.callers import NO_LONGER_VALID
from service.errors import BadRequest, InternalError, QuotaExceeded, ServiceError, Unauthorized, Unavailable
from service.settings import settings

Error = TypeVar("Error", bound=BaseException)

# A broken connection, a server that stops, starts or only reads, or a time-out: the same request may succeed soon.
TRANSIENT = (
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.TransactionRollbackError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.TransactionTimeoutError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # a standby, or an operator set it
    asyncpg.exceptions.InvalidCachedStatementError,  # in a transaction; outside of one asyncpg runs it again
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

# Another transaction was in the way: the same statement may succeed later.
CONTENTION = (
    asyncpg.exceptions.LockNotAvailableError,
    asyncpg.exceptions.QueryCanceledError,
    asyncpg.exceptions.TransactionRollbackError,
)

# What a pending migration creates is missing. While none is pending, it is a failure like any other.
_MISSING = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.UndefinedFunctionError,
)

# A privilege was revoked, or never given: an operator has to give it
_REFUSED = asyncpg.InsufficientPrivilegeError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
# Too few files or too little memory, or a network that is away
_PASSING = {
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOBUFS,
    errno.EAGAIN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
}

# By the names that the function add_usage gives to its errors.
_QUOTAS = {
    "quota_characters": f"A user may have {settings.quota_characters} characters, including those in the trash.",
    "quota_stored_bytes": f"A user may store {settings.quota_stored_bytes} bytes of portraits and cards.",
}

# Rows of a user who was purged since the token of the request was looked up
_OF_A_USER = {
    "characters_owner_fkey",
    "email_tokens_user_fkey",
    "idempotency_keys_user_fkey",
    "templates_owner_fkey",
    "tokens_user_fkey",
    "user_usage_user_fkey",
}


_migrations_are_pending = False


def note_pending_migrations(are_pending: bool) -> None:
    """Says what the last look at the migrations found: at the start, and at each check of readiness."""
    global _migrations_are_pending
    _migrations_are_pending = are_pending


def to_service_error(error: Exception) -> ServiceError:
    """The error to send to a client. It contains no details of an unexpected error."""
    if isinstance(error, ExceptionGroup):  # from the task group of a streamed response
        return to_service_error(error.exceptions[0])
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name in _QUOTAS:
        return QuotaExceeded(_QUOTAS[error.constraint_name])
    if isinstance(error, asyncpg.ForeignKeyViolationError) and error.constraint_name in _OF_A_USER:
        return Unauthorized(NO_LONGER_VALID)
    if isinstance(error, asyncpg.exceptions.ReadOnlySQLTransactionError):
        return Unavailable("The database accepts no changes at the moment.")
    if isinstance(error, _REFUSED):
        return Unavailable("The database refuses what the service needs for this request.")
    if isinstance(error, _MISSING) and _migrations_are_pending:
        return Unavailable("The database lacks migrations of this release of the service.")
    if isinstance(error, TRANSIENT):
        return Unavailable()
    if isinstance(error, OSError):
        return _system_error(error)
    if isinstance(error, asyncpg.DataError):
        return BadRequest("The request holds a value that cannot be stored.")
    return InternalError()


def fault_of_deployment(error: Exception) -> str:
    """What PostgreSQL says about a fault that only an operator can mend; empty for all other errors."""
    if isinstance(error, ExceptionGroup):
        return fault_of_deployment(error.exceptions[0])
    return f"The role of the service lacks a privilege: {error}" if isinstance(error, _REFUSED) else ""


def _system_error(error: OSError) -> ServiceError:
    if error.errno in _FULL:
        return Unavailable("The storage accepts no files at the moment.")
    return Unavailable() if isinstance(error, ConnectionError) or error.errno in _PASSING else InternalError()


@contextmanager
def on_constraint(errors: Mapping[str, ServiceError]) -> Iterator[None]:
    """Raises the error that ``errors`` names for the constraint that a statement of the block violates."""
    try:
        yield
    except asyncpg.IntegrityConstraintViolationError as error:
        if error.constraint_name in errors:
            raise copy(errors[error.constraint_name]) from None  # a copy, as each raise adds to an error's traceback
        raise


def without_frames(error: Error) -> Error:
    """``error``, to keep, without the tracebacks of it and of its causes. Their frames hold what was read, such as a
    file, and often the error itself, so that only Python's collector of cycles would free them."""
    each: BaseException | None = error
    while each is not None:
        following = each.__cause__ or each.__context__
        each.__cause__ = each.__context__ = each.__traceback__ = None
        each = following
    return error
