"""Delivery: encrypted as configured, tried again when the server is away, and each message sent once."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from aiosmtpd.smtp import AuthResult, LoginPassword
from loguru import logger

from service.auth.email_links import mint_token
from service.mail.outbox import queue_message
from service.mail.smtp import Undeliverable, compose
from service.mail.tables import Message
from service.mail.worker import deliver_next, mail_worker
from tests.api.auth.test_email_links import VERIFY, outbox_empties
from tests.conftest import PASSWORD, signed_in
from tests.support.mail import Mailbox, configure, mail_server

Client = httpx.AsyncClient

LOGIN = LoginPassword(b"service", b"hunter2 of the mail")


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """This machine's, from an authority that the service trusts."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def only_the_service(server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
    return AuthResult(success=given == LOGIN)


async def test_starttls_with_a_sign_in(app: Any, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox()
    port = configure(monkeypatch, smtp_tls="starttls", smtp_user="service", smtp_password="hunter2 of the mail")
    guarded = {"auth_required": True, "authenticator": only_the_service}
    async with mail_server(mailbox, port, tls_context=certificate, require_starttls=True, **guarded):
        await signed_in(app, "bea")
        assert (await mailbox.arrived(VERIFY))["to"] == "bea@example.org"


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # aiosmtpd does not count implicit TLS
async def test_implicit_tls_with_a_sign_in(
    app: Any, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = Mailbox()
    port = configure(monkeypatch, smtp_tls="implicit", smtp_user="service", smtp_password="hunter2 of the mail")
    guarded = {"auth_required": True, "authenticator": only_the_service, "auth_require_tls": False}
    async with mail_server(mailbox, port, certificate, **guarded):
        await signed_in(app, "bea")
        assert (await mailbox.arrived(VERIFY))["to"] == "bea@example.org"


@pytest.mark.parametrize("trusted", [True, False], ids=["no TLS is offered", "a stranger's certificate"])
async def test_with_tls_no_message_is_sent_unencrypted_or_to_an_unverified_server(
    app: Any, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    mailbox = Mailbox()
    port = configure(monkeypatch, smtp_tls="starttls")
    if not trusted:
        monkeypatch.delenv("SSL_CERT_FILE")
    async with mail_server(mailbox, port, **({} if trusted else {"tls_context": certificate})):
        await signed_in(app, "bea")
        await attempted(2)
        assert mailbox.messages == []
        assert await Message.exists()


async def attempted(times: int) -> None:
    for _ in range(1000):
        if any(row["attempts"] >= times for row in await Message.select(Message.attempts)):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("The message was not tried again.")


async def test_nothing_is_lost_while_the_server_is_away(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox()
    port = configure(monkeypatch)
    for name in ("bea", "dora"):
        await signed_in(app, name)
    await attempted(2)
    async with mail_server(mailbox, port):
        await mailbox.arrived(VERIFY, 2)
        assert {message["to"] for message in mailbox.messages} == {"bea@example.org", "dora@example.org"}
        await outbox_empties()
        token = await mailbox.token(VERIFY)
        stranger = await signed_in(app, "eve")
        assert (
            await stranger.put("/v1/email-verifications", json={"token": token, "current_password": PASSWORD})
        ).status_code == 204


async def test_a_server_that_is_busy_gets_it_later_and_one_that_knows_nobody_never(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = Mailbox()
    async with mail_server(mailbox, configure(monkeypatch)):
        mailbox.refusals = ["451 Not now"]
        await signed_in(app, "bea")
        await mailbox.arrived(VERIFY)
        await outbox_empties()
        mailbox.refusals = ["550 Nobody here"]
        await signed_in(app, "dora")
        await outbox_empties()
    assert [message["to"] for message in mailbox.messages] == ["bea@example.org"]


@pytest.mark.parametrize("understood", [True, False])
async def test_an_address_beyond_ascii_is_written_to_where_the_server_can(
    app: Any, stranger: Client, monkeypatch: pytest.MonkeyPatch, understood: bool
) -> None:
    mailbox = Mailbox()
    async with mail_server(mailbox, configure(monkeypatch), enable_SMTPUTF8=understood):
        account = {"email": "zoë@bücher.example", "username": "zoe", "password": PASSWORD}
        assert (await stranger.post("/v1/users", json=account)).status_code == 201
        await outbox_empties()
    assert [message["to"] for message in mailbox.messages] == (["zoë@bücher.example"] if understood else [])


async def test_a_letter_that_is_a_day_old_is_given_up(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch)  # without a server
    await signed_in(app, "bea")
    await attempted(2)
    await Message.update({Message.created_at: datetime(2020, 1, 1, tzinfo=UTC)}, force=True)
    await outbox_empties()


async def test_workers_at_once_send_each_message_once(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mailbox = Mailbox()
    async with mail_server(mailbox, configure(monkeypatch)):
        for number in range(20):
            await queue_message("email_changed", f"member-{number}@example.org", "bea")

        async def until_none_is_left() -> None:
            while await deliver_next(mint_token):
                pass

        await asyncio.gather(*(until_none_is_left() for _ in range(5)))
        await outbox_empties()
    assert sorted(mailbox.recipients) == sorted([f"member-{number}@example.org"] for number in range(20))


@pytest.mark.parametrize("address", ["a@b.org\nBcc: c@d.org", "a@b.org, c@d.org", "a\r\n", "", "@", "a@b.org\0"])
def test_no_address_becomes_another_header(address: str) -> None:
    with pytest.raises(Undeliverable):
        compose(address, "Subject", "Text")


async def test_production_without_a_mail_server_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    configure(monkeypatch, environment="production", smtp_host="")
    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING")
    async with mail_worker(mint_token):
        pass
    logger.remove(sink)
    assert "SMTP_HOST is not set: no mail is sent" in "".join(lines)


async def test_development_without_a_mail_server_logs_the_message(app: Any) -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, level="INFO")
    await signed_in(app, "bea")
    await outbox_empties()
    logger.remove(sink)
    assert "/verify-email#token=chm_" in "".join(lines)
    assert "LINKS_URL is not set. Send the text after #token= as the token to PUT /v1/email-verifications" in "".join(
        lines
    )
