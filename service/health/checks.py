"""The checks of readiness, by name: the state of each part of the service."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context

from service.database.engine import DB
from service.database.replicas import REPLICAS
from service.health import queries
from service.health.storage import check_storage
from service.limits.valkey import valkey
from service.settings import settings

_PATIENCE = 2.0  # seconds for each check
_checking: asyncio.Task[dict[str, str]] | None = None
# On a disk that hangs, the check does not return. The threads of asyncio also read bodies and hash passwords
_examiner = ThreadPoolExecutor(1, "storage check")
_examining: Future[str] | None = None


async def check_together() -> dict[str, str]:
    """Requests that arrive while the checks run share their result: as anybody may ask, they run once at a time."""
    global _checking
    if _checking is None or _checking.done():
        # Not in the context of the request: its caller may have no connection left
        _checking = asyncio.create_task(_check(), context=Context())
    return await asyncio.shield(_checking)


async def _check() -> dict[str, str]:
    checks = await _check_database()
    if not settings.storage_url:
        checks["storage"] = await _check_storage()
    if valkey is not None:
        checks["limits"] = "not shared" if valkey.is_away else "ok"
    if settings.database_replica_urls:
        checks["replicas"] = "left out" if REPLICAS.left_out() else "ok"
    return checks


async def _check_database() -> dict[str, str]:
    """Does not wait for a connection: while all are in use, the database is there."""
    details = queries.checks()
    checks = dict.fromkeys(["database", *details], "unknown")
    if DB.is_busy():
        checks["database"] = "busy"
        return checks
    try:
        async with asyncio.timeout(_PATIENCE):
            await queries.check_database()
    except Exception:  # with any error, this instance cannot serve
        checks["database"] = "away"
        return checks
    checks["database"] = "ok"
    for name, check in details.items():
        try:
            async with asyncio.timeout(_PATIENCE):
                checks[name] = await check()
        except Exception:  # a table may be missing while migrations are pending
            checks[name] = "unknown"
    return checks


async def _check_storage() -> str:
    global _examining
    if _examining is not None and not _examining.done():
        return "not writable"
    _examining = _examiner.submit(check_storage, settings.data_dir / "files")
    try:
        async with asyncio.timeout(_PATIENCE):
            return await asyncio.wrap_future(_examining)
    except OSError:  # TimeoutError is one
        return "not writable"
