"""The mail worker: sends the messages of the outbox while the service runs."""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any, NamedTuple, Protocol

from loguru import logger

from service.background import in_background
from service.mail.messages import LINKED, compose_message
from service.mail.outbox import delete_message, may_send, postpone_message, take_message, wait_for_messages
from service.mail.smtp import Undeliverable, send
from service.settings import settings

PAUSE = 15.0  # seconds between looks at the outbox, unless wake_worker is called
FIRST_RETRY = 15.0  # seconds, doubled each time
_LAST_RETRY = 3600.0


class Recipient(NamedTuple):
    """The user that a link is for, and the token in it."""

    email: str
    username: str
    token: str


class MintToken(Protocol):
    """Makes the token of a link, just before its message is sent. None: no message is needed any more."""

    def __call__(self, kind: Any, address: str, *, again: bool) -> Awaitable[Recipient | None]: ...


@asynccontextmanager
async def mail_worker(mint_token: MintToken) -> AsyncIterator[None]:
    """Sends messages while the block runs. A message is deleted after the mail server has accepted it, so a crash in
    between sends it twice."""
    if not settings.sends_mail:
        logger.warning("SMTP_HOST is not set: no mail is sent, so no address can be verified and no password reset.")
        yield
        return
    async with in_background(_deliver_until_cancelled(mint_token)):
        yield


async def _deliver_until_cancelled(mint_token: MintToken) -> None:
    while True:
        try:
            while await deliver_next(mint_token):
                pass
        except Exception as error:  # for example, no database: this task must go on
            logger.warning("The outbox cannot be read; trying again later: {!r}", error)
        await wait_for_messages(PAUSE)


async def deliver_next(mint_token: MintToken) -> bool:
    """Returns whether a message was due. A message that cannot be sent now is tried again, for a day."""
    row = await take_message()
    if row is None:
        return False
    try:
        if row["overdue"]:
            raise Undeliverable("The mail server did not accept it within a day.")
        await _deliver(row, mint_token)
    except Undeliverable as error:
        logger.error("The message {} ({}) is given up: {}", row["id"], row["kind"], error)
    except Exception as error:
        logger.warning("The message {} ({}) could not be sent; trying again later: {!r}", row["id"], row["kind"], error)
        await postpone_message(row["id"], min(_LAST_RETRY, FIRST_RETRY * 2 ** (row["attempts"] - 1)))
        return True
    await delete_message(row["id"])
    return True


async def _deliver(row: Any, mint_token: MintToken) -> None:
    """Makes a new token at each attempt, because only its hash is stored."""
    recipient, username, token = row["address"], row["username"], ""
    if row["kind"] in LINKED:
        minted = await mint_token(row["kind"], row["address"], again=row["attempts"] > 1)
        if minted is None:
            return
        recipient, username, token = minted
    elif row["attempts"] == 1 and not await may_send(row["kind"], recipient):
        return
    message: EmailMessage = compose_message(row["kind"], recipient, username, token)
    await send(message, recipient)
