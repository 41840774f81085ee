"""Handing a letter to the mail server."""

import asyncio
import re
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime, make_msgid, parseaddr

import aiosmtplib
from loguru import logger

from service.settings import settings

_PATIENCE = 60.0  # seconds for all of a conversation


_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


class Undeliverable(Exception):
    """No second attempt would do better: the address is none, or the server knows nobody there."""


def compose(recipient: str, subject: str, text: str) -> EmailMessage:
    """Raises Undeliverable for an address that cannot stand in a header."""
    message = EmailMessage()
    try:
        Address(addr_spec=_BEYOND_ASCII.sub("x", recipient))  # which would refuse what only SMTPUTF8 can send
        name, _, domain = recipient.rpartition("@")
        message["To"] = Address(username=name, domain=domain)
    except (ValueError, IndexError, MessageError) as error:
        raise Undeliverable("The address is not one that mail knows.") from error
    message["From"] = settings.mail_from or "nobody@localhost"
    message["Subject"] = subject
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain=parseaddr(settings.mail_from)[1].partition("@")[2] or "localhost")
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    return message


async def send(message: EmailMessage, recipient: str) -> None:
    """Without SMTP_HOST, to the log. Raises Undeliverable, or what aiosmtplib raises when it may go better later."""
    if not settings.smtp_host:
        logger.info("Mail to {}: {}\n{}", recipient, message["Subject"], message.get_content())
        return
    try:
        async with asyncio.timeout(_PATIENCE):
            await aiosmtplib.send(
                message,
                recipients=[recipient],
                hostname=settings.smtp_host,
                port=settings.smtp_port,
                username=settings.smtp_user or None,
                password=settings.smtp_password or None,
                use_tls=settings.smtp_tls == "implicit",
                start_tls=settings.smtp_tls == "starttls",
                timeout=_PATIENCE / 2,
            )
    except aiosmtplib.SMTPRecipientsRefused as error:
        if all(refusal.code >= 500 for refusal in error.recipients):
            raise Undeliverable("The mail server refuses the recipient.") from error
        raise
    except aiosmtplib.SMTPNotSupported as error:
        if recipient.isascii():
            raise
        raise Undeliverable("The mail server takes no address beyond ASCII.") from error
