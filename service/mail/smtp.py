"""Sends a message to the mail server."""

import asyncio
import re
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime, make_msgid, parseaddr
from typing import Any

import aiosmtplib
from loguru import logger

from service.database.held import check_no_connection
from service.settings import settings

_SMTP_TIMEOUT = 60.0  # seconds, for the whole SMTP conversation

_NON_ASCII = re.compile(r"[^\x00-\x7f]")


class Undeliverable(Exception):
    """The message cannot be delivered, and trying again will not help: the address is invalid or was refused."""


def compose(recipient: str, subject: str, text: str) -> EmailMessage:
    """Raises Undeliverable for an address that is not valid in a header."""
    message = EmailMessage()
    try:
        Address(addr_spec=_NON_ASCII.sub("x", recipient))  # addr_spec refuses non-ASCII, which SMTPUTF8 can send
        name, _, domain = recipient.rpartition("@")
        message["To"] = Address(username=name, domain=domain)
    except (ValueError, IndexError, MessageError) as error:
        raise Undeliverable("The address is not a valid e-mail address.") from error
    message["From"] = settings.mail_from or "nobody@localhost"
    message["Subject"] = subject
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain=parseaddr(settings.mail_from)[1].partition("@")[2] or "localhost")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return message


async def check_server() -> None:
    """Connects to the mail server and signs in, as for a message. Raises aiosmtplib's error, or OSError."""
    async with aiosmtplib.SMTP(**_connection()):  # which connects, and says goodbye at the end
        pass


def _connection() -> dict[str, Any]:
    return {
        "hostname": settings.smtp_host,
        "port": settings.smtp_port,
        "username": settings.smtp_user or None,
        "password": settings.smtp_password or None,
        "use_tls": settings.smtp_tls == "implicit",
        "start_tls": settings.smtp_tls == "starttls",
        "timeout": _SMTP_TIMEOUT / 2,
    }


async def send(message: EmailMessage, recipient: str) -> None:
    """Logs the message when SMTP_HOST is not set. Raises Undeliverable, or aiosmtplib's error when a retry may help."""
    check_no_connection("Sending mail")
    if not settings.smtp_host:
        logger.bind(unmasked=True).info("Mail to {}: {}\n{}", recipient, message["Subject"], message.get_content())
        return
    try:
        async with asyncio.timeout(_SMTP_TIMEOUT):
            await aiosmtplib.send(message, recipients=[recipient], **_connection())
    except aiosmtplib.SMTPRecipientsRefused as error:
        if all(refusal.code >= 500 for refusal in error.recipients):
            raise Undeliverable("The mail server refused the recipient.") from error
        raise
    except aiosmtplib.SMTPNotSupported as error:
        if recipient.isascii():
            raise
        raise Undeliverable("The mail server does not support non-ASCII addresses.") from error
