"""The open streams of changes in this worker: how many each user has, and when they must end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from loguru import logger

from service.auth.queries import valid_tokens
from service.background import in_background
from service.callers import Caller
from service.changes.listeners import change_listeners
from service.errors import TooManyRequests
from service.metrics import Gauge
from service.settings import settings
from service.web.shutdown import on_signal

USERS_OF_ADDRESS = 20  # as many users may have all their streams at one address
CHECKED_EVERY = 4.0  # seconds; a stream ends within five seconds after its token was revoked

_ends: dict[UUID | None, dict[UUID | None, set[asyncio.Event]]] = {}  # by user and token
_of_address: Counter[str] = Counter()
_is_ending = False

_OPEN = Gauge("change_streams_open", "Open streams of changes.", multiprocess_mode="livesum")


@contextmanager
def opened(user: Caller, address: str, end: asyncio.Event) -> Iterator[None]:
    """Counts a stream for the block, and sets ``end`` when the token is not valid any more or the worker ends. Raises
    TooManyRequests if the user or the address has as many streams as are allowed."""
    if sum(map(len, _ends.get(user.id, {}).values())) >= settings.max_change_streams:
        text = f"You have {settings.max_change_streams} open streams: close one."
        raise TooManyRequests(text, headers={"Retry-After": "5"})
    if _of_address[address] >= USERS_OF_ADDRESS * settings.max_change_streams:
        text = f"Your address has {_of_address[address]} open streams: close one."
        raise TooManyRequests(text, headers={"Retry-After": "5"})
    if _is_ending:
        end.set()
    _of_address[address] += 1
    of_user = _ends.setdefault(user.id, {})
    of_token = of_user.setdefault(user.token_id, set())
    of_token.add(end)
    _OPEN.inc()
    try:
        yield
    finally:
        _OPEN.dec()
        _of_address[address] -= 1
        if not _of_address[address]:
            del _of_address[address]
        of_token.discard(end)
        if not of_token:
            of_user.pop(user.token_id, None)
        if not of_user:
            _ends.pop(user.id, None)


def end_all() -> None:
    """Ends all streams, also those that are opened from now on."""
    global _is_ending
    _is_ending = True
    for of_user in _ends.values():
        for of_token in of_user.values():
            for end in of_token:
                end.set()


@asynccontextmanager
async def change_streams() -> AsyncIterator[None]:
    """Listens for changes, and checks the tokens of open streams, for the block."""
    global _is_ending
    _is_ending = False
    async with change_listeners(), in_background(_check_until_cancelled()):
        try:
            with on_signal(end_all):
                yield
        finally:
            end_all()


async def _check_until_cancelled() -> None:
    while True:
        await asyncio.sleep(CHECKED_EVERY)
        try:
            await _end_streams_of_invalid_tokens()
        except Exception as error:  # for example, no database: then the streams read nothing either
            logger.warning("The tokens of open streams cannot be checked: {!r}", error)


async def _end_streams_of_invalid_tokens() -> None:
    tokens = {token: ends for of_user in _ends.values() for token, ends in of_user.items() if token}
    if not tokens:
        return
    for token in tokens.keys() - await valid_tokens(list(tokens)):
        for end in tokens[token]:
            end.set()
