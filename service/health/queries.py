"""The queries of readiness and of the metrics."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from piccolo.querystring import QueryString

from service.changes.queries import is_resynced
from service.database.migrations import pending_migrations
from service.database.prepared import Prepared
from service.database.privileges import lacking_privileges
from service.mail.outbox import waiting_messages
from service.settings import settings

_MAIL_PATIENCE = 3600.0  # seconds; a single recipient may refuse for a while

# A commit waits for a synchronous standby without end. Only a role with pg_read_all_stats sees whether a standby is
# synchronous. Other roles see how many standbys are connected, and which of their own sessions wait.
_LACKS_STANDBY = """
    current_setting('synchronous_standby_names') <> ''
    AND current_setting('synchronous_commit') NOT IN ('off', 'local')
    AND (NOT EXISTS (SELECT FROM pg_stat_replication)
      OR EXISTS (SELECT FROM pg_stat_activity
        WHERE wait_event = 'SyncRep' AND query_start < clock_timestamp() - interval '1 second')
      OR pg_has_role('pg_read_all_stats', 'USAGE')
        AND NOT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')))
"""
_WRITES = Prepared(
    lambda: QueryString(
        "SELECT CASE WHEN pg_is_in_recovery() THEN 'in recovery'"
        " WHEN current_setting('transaction_read_only')::bool THEN 'read only'"
        f" WHEN {_LACKS_STANDBY} THEN 'no standby'"
        " ELSE 'ok' END"
    )
)
_DATABASE = Prepared(lambda: QueryString("SELECT 1"))


async def check_database() -> None:
    """Raises an error when the database cannot be used."""
    await _DATABASE.value()


async def _check_migrations() -> str:
    return "pending" if await pending_migrations() else "ok"


async def _check_writes() -> str:
    return str(await _WRITES.value())


async def _check_privileges() -> str:
    return "missing" if await lacking_privileges() else "ok"


async def _check_feed() -> str:
    return "ok" if await is_resynced() else "needs resync"


async def _check_mail() -> str:
    return "failing" if (await waiting_messages()).seconds > _MAIL_PATIENCE else "ok"


def checks() -> Mapping[str, Callable[[], Awaitable[str]]]:
    """By name, a function that returns the state of one part. It may raise any error."""
    of_mail = {"mail": _check_mail} if settings.smtp_host else {}
    return {
        "migrations": _check_migrations,
        "writes": _check_writes,
        "privileges": _check_privileges,
        "feed": _check_feed,
    } | of_mail


class Transactions(NamedTuple):
    old: float  # the number of those that run for more than 10 seconds
    feed_lag: float  # seconds; the feed shows no change that is newer than the oldest one that writes


# A role without pg_read_all_stats does not see when the transactions of other roles began
_TRANSACTIONS = Prepared(
    lambda: QueryString(
        "SELECT count(*) FILTER (WHERE started < clock_timestamp() - interval '10 seconds') AS old,"
        " coalesce(extract(epoch FROM clock_timestamp() - min(started) FILTER (WHERE writes)), 0)::float AS feed_lag"
        " FROM (SELECT xact_start AS started, backend_xid IS NOT NULL AS writes FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() UNION ALL SELECT prepared, true FROM pg_prepared_xacts) AS running"
    )
)


async def find_transactions() -> Transactions:
    return Transactions(**await _TRANSACTIONS.one())
