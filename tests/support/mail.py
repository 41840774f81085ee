"""A mail server on loopback, and the messages that it receives."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller

from service.mail.tables import Message
from service.settings import settings
from tests.support.servers import free_port

SENDER = "Character service <no-reply@example.org>"


class Mailbox:
    """The received messages. ``refusals`` are the replies to the next recipients."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refusals: list[str] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, _: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 (aiosmtpd's name)
        self.recipients.append(envelope.rcpt_tos)
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"

    async def arrived(self, about: str, number: int = 1) -> EmailMessage:
        """Waits for the ``number``th message that has ``about`` in its subject."""
        for _ in range(1000):
            found = [message for message in self.messages if about in message["subject"]]
            if len(found) >= number:
                return found[number - 1]
            await asyncio.sleep(0.02)
        raise AssertionError(f"No message about {about!r} among {[message['subject'] for message in self.messages]}")

    async def token(self, about: str, number: int = 1) -> str:
        text = (await self.arrived(about, number)).get_content()
        found = re.search(r"#token=(\S+)", text)
        assert found, text
        return found[1]


@asynccontextmanager
async def mail_server(
    mailbox: Mailbox, port: int, certificate: ssl.SSLContext | None = None, **given: Any
) -> AsyncIterator[None]:
    """Runs a mail server: with implicit TLS if there is a ``certificate``, else with aiosmtpd's options."""
    server = Controller(mailbox, hostname="127.0.0.1", port=port, ssl_context=certificate, ready_timeout=10, **given)
    server.start()
    try:
        yield
        await outbox_rests()
    finally:
        server.stop()


async def outbox_rests() -> None:
    """Deletes the waiting messages and waits until none is being sent; those are leased for longer. A server that stops
    while it receives a message would delay the messages of the next test."""
    for _ in range(1000):
        await Message.delete().where(Message.due_at < datetime.now(UTC) + timedelta(seconds=60))
        if not await Message.exists():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("A message is still being sent.")


def configure(monkeypatch: pytest.MonkeyPatch, **given: Any) -> int:
    """Sends the app's messages to the returned port of this machine and retries soon when that fails."""
    port = free_port()
    sending = {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_tls": "none", "mail_from": SENDER} | given
    configured = msgspec.structs.replace(settings, **sending)
    for module in ("service.mail.smtp", "service.mail.messages", "service.mail.worker"):
        monkeypatch.setattr(f"{module}.settings", configured)
    monkeypatch.setattr("service.mail.worker.PAUSE", 0.05)
    monkeypatch.setattr("service.mail.worker.FIRST_RETRY", 0.05)
    return port
