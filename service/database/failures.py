"""What an error of PostgreSQL or of the system means to a client."""

import asyncpg

from service.errors import BadRequest, InternalError, QuotaExceeded, ServiceError, Unavailable
from service.settings import settings

# The connection broke, the server stops or starts, or a time-out ended: the same request may succeed in a second.
TRANSIENT = (
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

# By the names that the function add_usage gives to its errors.
_QUOTAS = {
    "quota_characters": f"A user may have {settings.quota_characters} characters, including those in the trash.",
    "quota_stored_bytes": f"A user may store {settings.quota_stored_bytes} bytes of portraits and cards.",
}


def to_service_error(error: Exception) -> ServiceError:
    """The ServiceError for any error; a client learns no more from it than it may know."""
    if isinstance(error, ExceptionGroup):  # a streamed response has tasks of its own
        return to_service_error(error.exceptions[0])
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name in _QUOTAS:
        return QuotaExceeded(_QUOTAS[error.constraint_name])
    if isinstance(error, TRANSIENT):
        return Unavailable()
    if isinstance(error, asyncpg.DataError):
        return BadRequest("The request holds a value that cannot be stored.")
    return InternalError()
