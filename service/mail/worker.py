"""The mail worker: sends the messages of the outbox while the service runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from email.message import EmailMessage
from typing import Any, NamedTuple, Protocol

from loguru import logger

from service.mail.messages import LINKED, letter
from service.mail.outbox import delete_letter, postpone_letter, take_letter, wait_for_letters
from service.mail.smtp import Undeliverable, send
from service.settings import settings

PAUSE = 15.0  # seconds between looks at the outbox, unless a letter is announced
FIRST_RETRY = 15.0  # seconds, doubled each time
_LAST_RETRY = 3600.0


class Recipient(NamedTuple):
    """Who a link is for, and the token in it."""

    email: str
    username: str
    token: str


class MintToken(Protocol):
    """Makes the token of a link, just before its message is sent. None: no message is needed any more."""

    def __call__(self, kind: Any, address: str, *, again: bool) -> Awaitable[Recipient | None]: ...


@asynccontextmanager
async def mail_worker(mint_token: MintToken) -> AsyncIterator[None]:
    """Sends letters for as long as the block lasts. A letter is kept until the mail server has it, so a crash in
    between may send one twice."""
    if settings.in_production and not settings.smtp_host:
        logger.warning("SMTP_HOST is not set: no mail is sent, no address verified and no password reset.")
        yield
        return
    rounds = asyncio.create_task(_go_round(mint_token))
    try:
        yield
    finally:
        rounds.cancel()
        with suppress(asyncio.CancelledError):
            await rounds


async def _go_round(mint_token: MintToken) -> None:
    while True:
        try:
            while await deliver_next(mint_token):
                pass
        except Exception as error:  # the database is away, say: the letters are safe, and so must be this task
            logger.warning("The letters have to wait: {!r}", error)
        await wait_for_letters(PAUSE)


async def deliver_next(mint_token: MintToken) -> bool:
    """Whether there was a letter. One that cannot be sent now is tried again, for a day."""
    row = await take_letter()
    if row is None:
        return False
    try:
        if row["overdue"]:
            raise Undeliverable("The mail server did not take it within a day.")
        await _deliver(row, mint_token)
    except Undeliverable as error:
        logger.error("The letter {} ({}) is given up: {}", row["id"], row["kind"], error)
    except Exception as error:
        logger.warning("The letter {} ({}) has to wait: {!r}", row["id"], row["kind"], error)
        await postpone_letter(row["id"], min(_LAST_RETRY, FIRST_RETRY * 2 ** (row["attempts"] - 1)))
        return True
    await delete_letter(row["id"])
    return True


async def _deliver(row: Any, mint_token: MintToken) -> None:
    """The token is made here, and anew at each attempt: nothing that is stored ever opens anything."""
    recipient, username, token = row["address"], row["username"], ""
    if row["kind"] in LINKED:
        minted = await mint_token(row["kind"], row["address"], again=row["attempts"] > 1)
        if minted is None:
            return
        recipient, username, token = minted
    message: EmailMessage = letter(row["kind"], recipient, username, token)
    await send(message, recipient)
