"""The metrics that nobody counts: they are read from this worker and from the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import nan

from loguru import logger

from service import metrics
from service.background import in_background
from service.database.engine import DB
from service.health.queries import Transactions, find_transactions
from service.mail.outbox import Waiting, waiting_messages
from service.media.images.workers import TURNS
from service.metrics import Gauge, sample
from service.settings import VERSION, settings

_EVERY = 5.0  # seconds between two samples of this worker, for the other ones to show
_PATIENCE = 0.5  # seconds for a connection and the answers: a scrape must not wait for a worker that is busy


def _of_worker(name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, labels, multiprocess_mode="livesum")


def _of_database(name: str, text: str) -> Gauge:
    """Each worker reads the same, so that the newest counts."""
    return Gauge(name, text, multiprocess_mode="livemostrecent")


_CONNECTIONS = _of_worker("database_connections", "Connections of the pools.", "state")
sample(_CONNECTIONS.labels("open"), DB.open_connections)
sample(_CONNECTIONS.labels("idle"), DB.idle_connections)
sample(_of_worker("database_pool_waiting", "Tasks that wait for a connection."), DB.waiting)
sample(_of_worker("pictures_queued", "Pictures that wait or are being processed."), TURNS.size)

_INFO = Gauge("service_info", "1, with the version of the service.", ["version"], multiprocess_mode="livemax")
_INFO.labels(VERSION).set(1)

_FEED_LAG = _of_database("feed_lag_seconds", "How long the oldest transaction that keeps changes from the feed runs.")
_OLD = _of_database("database_old_transactions", "Transactions that run for more than 10 seconds.")
_MESSAGES = _of_database("outbox_messages", "Messages that wait in the outbox.")
_OLDEST = _of_database("outbox_oldest_seconds", "How long the oldest message waits.")


@asynccontextmanager
async def metrics_worker() -> AsyncIterator[None]:
    """Takes samples for the block: any worker may be asked for the numbers of all."""
    try:
        async with in_background(_sample_until_cancelled()):
            yield
    finally:
        metrics.leave()


async def _sample_until_cancelled() -> None:
    while True:
        metrics.take_samples()
        await asyncio.sleep(_EVERY)


async def render_metrics() -> tuple[bytes, str]:
    """The text and its content type. While the database does not answer, what is read from it is NaN."""
    transactions, waiting = Transactions(nan, nan), Waiting(nan, nan)
    try:
        async with asyncio.timeout(_PATIENCE):
            transactions = await find_transactions()
            # Without a mail server, nothing waits to be sent: messages stay until they are purged
            waiting = await waiting_messages() if settings.sends_mail else Waiting(0, 0)
    except Exception as error:
        logger.warning("The metrics of the database cannot be read: {!r}", error)
    _FEED_LAG.set(transactions.feed_lag)
    _OLD.set(transactions.old)
    _MESSAGES.set(waiting.messages)
    _OLDEST.set(waiting.seconds)
    return metrics.render(), metrics.CONTENT_TYPE
