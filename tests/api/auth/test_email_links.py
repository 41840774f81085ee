"""Verified addresses and forgotten passwords, by the messages that a mail server received."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from loguru import logger

from service.auth import email_links
from service.auth.tables import EmailToken
from service.auth.token_cache import forget_tokens
from service.characters.tables import Character
from service.commands.purge import purge_everything
from service.limits.rate_limits import RECIPIENT, RECIPIENT_OF_LINKS, Limit
from service.mail.tables import Message
from service.settings import settings
from service.users.passwords import hash_password
from service.users.tables import User
from tests.api.audit.test_audit import entries
from tests.conftest import PASSWORD, character, client, create, faults, signed_in, with_key
from tests.support.mail import SENDER, Mailbox, configure, mail_server

Client = httpx.AsyncClient

VERIFY, RESET, EMAIL_CHANGED, PASSWORD_CHANGED = "confirm", "new password", "address of your", "password of your"
KEY_CREATED = "API key was created"
NEW = "another long password"
NO_LONGER = "This link was used already, is too old, or was replaced by a newer one."


@pytest.fixture
async def mailbox(app: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mailbox]:
    mailbox = Mailbox()
    async with mail_server(mailbox, configure(monkeypatch, links_url="https://app.example.org/")):
        yield mailbox


async def ask(stranger: Client, purpose: str, email: str) -> None:
    answer = await stranger.post(f"/v1/{purpose}", json={"email": email})
    assert (answer.status_code, answer.content) == (202, b"")


async def verify(stranger: Client, token: str, password: str = PASSWORD) -> int:
    body = {"token": token, "current_password": password}
    return (await stranger.put("/v1/email-verifications", json=body)).status_code


async def verified(app: Any, mailbox: Mailbox, member: Client, number: int = 1) -> Client:
    """Alice with a verified address, signed in again."""
    assert await verify(member, await mailbox.token(VERIFY, number)) == 204
    return await signed_in_again(app)


async def reset(stranger: Client, token: str, password: str = NEW) -> httpx.Response:
    return await stranger.put("/v1/password-resets", json={"token": token, "password": password})


async def sign_in(stranger: Client, password: str) -> int:
    return (await stranger.post("/v1/sessions", json={"login": "alice", "password": password})).status_code


async def signed_in_again(app: Any) -> Client:
    session = await create(client(app), "/v1/sessions", login="alice", password=PASSWORD)
    return client(app, Authorization=f"Bearer {session['token']}")


async def me(member: Client) -> Any:
    return (await member.get("/v1/users/me")).json()


async def outbox_empties() -> None:
    for _ in range(1000):
        if not await Message.exists():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("The outbox is not empty.")


async def test_an_address_is_verified_by_the_message_that_signing_up_sends(
    app: Any, mailbox: Mailbox, alice: Client, stranger: Client
) -> None:
    message = await mailbox.arrived(VERIFY)
    assert (message["to"], message["from"], message["auto-submitted"]) == (
        "alice@example.org",
        SENDER,
        "auto-generated",
    )
    token = await mailbox.token(VERIFY)
    assert f"https://app.example.org/verify-email#token={token}" in message.get_content()
    before = await me(alice)
    assert before["email_verified"] is False
    assert await verify(stranger, token) == 204
    after = await me(await signed_in_again(app))
    assert (after["email_verified"], after["version"]) == (True, before["version"] + 1)
    assert await verify(stranger, token) == 404


@pytest.mark.parametrize("token", ["chm_" + "a" * 51, "x", "chs_" + "a" * 51])
async def test_an_unknown_token_has_a_pointer(stranger: Client, token: str) -> None:
    for refused in (
        await stranger.put("/v1/email-verifications", json={"token": token, "current_password": PASSWORD}),
        await reset(stranger, token),
    ):
        assert (refused.status_code, refused.json()["detail"]) == (404, NO_LONGER)
        assert faults(refused).keys() == {"/token"}


async def test_an_address_that_is_not_verified_signs_in(mailbox: Mailbox, alice: Client) -> None:
    assert (await me(alice))["email_verified"] is False


async def test_a_verified_address_is_sent_no_other_message(mailbox: Mailbox, alice: Client, stranger: Client) -> None:
    await verify(stranger, await mailbox.token(VERIFY))
    await EmailToken.delete(force=True)
    await ask(stranger, "email-verifications", "alice@example.org")
    await outbox_empties()
    assert len(mailbox.messages) == 1


async def test_a_new_address_must_be_verified_and_the_old_one_is_notified(
    app: Any, mailbox: Mailbox, alice: Client, stranger: Client
) -> None:
    first = await mailbox.token(VERIFY)
    assert await verify(stranger, first) == 204
    alice = await signed_in_again(app)
    change = {"email": "Alice@example.net", "current_password": PASSWORD}
    assert (await alice.patch("/v1/users/me", json=change)).json()["email_verified"] is False
    assert (await mailbox.arrived(EMAIL_CHANGED))["to"] == "alice@example.org"
    second = await mailbox.arrived(VERIFY, 2)
    assert second["to"] == "Alice@example.net"
    assert await verify(stranger, await mailbox.token(VERIFY, 2)) == 204
    assert (await me(await signed_in_again(app)))["email_verified"] is True


async def test_a_token_verifies_only_the_address_it_was_sent_to(
    mailbox: Mailbox, alice: Client, stranger: Client
) -> None:
    old = await mailbox.token(VERIFY)
    await ask(stranger, "password-resets", "alice@example.org")
    old_reset = await mailbox.token(RESET)
    await alice.patch("/v1/users/me", json={"email": "alice@example.net", "current_password": PASSWORD})
    assert await verify(stranger, old) == 404
    assert (await reset(stranger, old_reset)).status_code == 404


async def test_other_changes_leave_the_address_verified(
    app: Any, mailbox: Mailbox, alice: Client, stranger: Client
) -> None:
    await verify(stranger, await mailbox.token(VERIFY))
    alice = await signed_in_again(app)
    same = {"email": "alice@example.org", "current_password": PASSWORD, "bio": "Paints."}
    assert (await alice.patch("/v1/users/me", json=same)).json()["email_verified"] is True
    await outbox_empties()
    assert len(mailbox.messages) == 1


async def test_a_forgotten_password_is_reset(app: Any, mailbox: Mailbox, alice: Client, stranger: Client) -> None:
    program = await with_key(app, alice, "characters:read")
    await ask(stranger, "password-resets", "ALICE@example.org")
    assert (await mailbox.arrived(RESET))["to"] == "alice@example.org"
    token = await mailbox.token(RESET)
    assert (await reset(stranger, token)).status_code == 204
    assert (await alice.get("/v1/users/me")).status_code == 401, "her sessions ended"
    assert (await program.get("/v1/characters")).status_code == 401, "her API keys, too"
    assert await sign_in(stranger, PASSWORD) == 401
    assert await sign_in(stranger, NEW) == 201
    assert (await mailbox.arrived(PASSWORD_CHANGED))["to"] == "alice@example.org"
    session = await create(stranger, "/v1/sessions", login="alice", password=NEW)
    assert session["user"]["email_verified"] is True
    again = await reset(stranger, token)
    assert (again.status_code, again.json()["detail"], list(faults(again))) == (404, NO_LONGER, ["/token"])


async def test_the_first_verification_ends_what_was_opened_before_it(
    app: Any, mailbox: Mailbox, alice: Client, charlie: Client, stranger: Client
) -> None:
    program = await with_key(app, alice, "characters:read")
    assert await verify(stranger, await mailbox.token(VERIFY)) == 204
    assert (await alice.get("/v1/users/me")).status_code == 401
    assert (await program.get("/v1/characters")).status_code == 401
    assert (await charlie.get("/v1/users/me")).status_code == 200
    again = await signed_in_again(app)
    await ask(stranger, "password-resets", "alice@example.org")
    token = await mailbox.token(RESET)
    await EmailToken.update({EmailToken.purpose: "verification"}).where(EmailToken.purpose == "reset")
    assert await verify(stranger, token) == 204
    assert (await again.get("/v1/users/me")).status_code == 200, "only the first one"


@pytest.mark.parametrize("purpose", ["reset", "verification"])
async def test_a_link_opens_nothing_once_the_address_is_another(
    mailbox: Mailbox, alice: Client, stranger: Client, monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    """The address changes after the link was found valid, and before the change that it opens."""
    await ask(stranger, "password-resets", "alice@example.org")
    token = await mailbox.token(RESET if purpose == "reset" else VERIFY)
    consume = email_links._consume_link

    async def change_address_first(*given: Any) -> Any:
        await asyncio.create_task(change_address(), context=Context())  # outside of the open transaction
        return await consume(*given)

    async def change_address() -> None:
        await User.update({User.email: "eve@example.org", User.email_key: "eve@example.org"}, force=True)

    monkeypatch.setattr(email_links, "_consume_link", change_address_first)
    status = (await reset(stranger, token)).status_code if purpose == "reset" else await verify(stranger, token)
    assert status == 404
    assert (await me(alice))["email_verified"] is False
    assert await sign_in(stranger, PASSWORD) == 201


async def test_a_link_needs_the_password_or_a_session_of_the_account(
    app: Any, mailbox: Mailbox, alice: Client, charlie: Client, stranger: Client
) -> None:
    """Somebody else may have signed up with the address, and would sign in with the password once it is verified."""
    await mailbox.arrived(VERIFY, 2)
    (message,) = [message for message in mailbox.messages if message["to"] == "alice@example.org"]
    token = await mailbox.token(VERIFY, mailbox.messages.index(message) + 1)
    for member in (stranger, charlie):
        refused = await member.put("/v1/email-verifications", json={"token": token})
        assert (refused.status_code, refused.json()["detail"]) == (
            403,
            "Verifying an address needs the current password of the account, or a session of it.",
        )
        assert faults(refused) == {"/current_password": "Is required without a session of the account."}
    wrong = await stranger.put("/v1/email-verifications", json={"token": token, "current_password": "a wrong one"})
    assert (wrong.status_code, list(faults(wrong))) == (403, ["/current_password"])
    assert (await me(alice))["email_verified"] is False
    assert (await alice.put("/v1/email-verifications", json={"token": token})).status_code == 204
    assert (await alice.get("/v1/users/me")).status_code == 401
    assert (await me(await signed_in_again(app)))["email_verified"] is True


async def test_the_owner_of_an_address_takes_over_what_somebody_else_opened_with_it(
    mailbox: Mailbox, alice: Client, stranger: Client
) -> None:
    await ask(stranger, "password-resets", "alice@example.org")
    assert (await reset(stranger, await mailbox.token(RESET))).status_code == 204
    assert (await alice.get("/v1/users/me")).status_code == 401
    assert (await sign_in(stranger, PASSWORD), await sign_in(stranger, NEW)) == (401, 201)
    assert await verify(stranger, await mailbox.token(VERIFY), PASSWORD) == 403


async def test_a_password_that_changes_meanwhile_verifies_nothing(
    mailbox: Mailbox, alice: Client, stranger: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await mailbox.token(VERIFY)
    consume = email_links._consume_link

    async def change_password_first(*given: Any) -> Any:
        await asyncio.create_task(change_password(), context=Context())  # outside of the open transaction
        return await consume(*given)

    async def change_password() -> None:
        await User.update({User.password_hash: await hash_password(NEW)}, force=True)

    monkeypatch.setattr(email_links, "_consume_link", change_password_first)
    assert await verify(stranger, token) == 403
    assert (await me(alice))["email_verified"] is False


async def test_no_notice_goes_to_an_address_that_is_not_verified(app: Any, mailbox: Mailbox, alice: Client) -> None:
    await with_key(app, alice, "characters:read")
    change = {"current_password": PASSWORD, "new_password": NEW}
    assert (await alice.put("/v1/users/me/password", json=change)).status_code == 204
    for email in ("alice@example.net", "alice@example.com"):
        await alice.patch("/v1/users/me", json={"email": email, "current_password": NEW})
    await outbox_empties()
    assert {message["subject"] for message in mailbox.messages} == {"Please confirm your e-mail address"}


async def test_a_new_key_is_reported_by_mail(app: Any, mailbox: Mailbox, alice: Client) -> None:
    alice = await verified(app, mailbox, alice)
    await with_key(app, alice, "characters:read")
    assert (await mailbox.arrived(KEY_CREATED))["to"] == "alice@example.org"


async def test_actions_by_e_mail_link_are_in_the_audit_log(mailbox: Mailbox, alice: Client, stranger: Client) -> None:
    body = {"token": await mailbox.token(VERIFY), "current_password": PASSWORD}
    confirmed = await stranger.put("/v1/email-verifications", json=body)
    await ask(stranger, "password-resets", "alice@example.org")
    changed = await reset(stranger, await mailbox.token(RESET))
    for answer, action in ((confirmed, "verify_email"), (changed, "change_password")):
        [entry] = await entries(answer.headers["X-Request-ID"])
        assert (entry["action"], entry["kind"], entry["row"]) == (action, "user", str(entry["member"]))


async def test_a_password_change_is_notified_by_mail(app: Any, mailbox: Mailbox, alice: Client) -> None:
    alice = await verified(app, mailbox, alice)
    change = {"current_password": PASSWORD, "new_password": NEW}
    assert (await alice.put("/v1/users/me/password", json=change)).status_code == 204
    assert (await mailbox.arrived(PASSWORD_CHANGED))["to"] == "alice@example.org"


@pytest.mark.parametrize("purpose", ["password-resets", "email-verifications"])
async def test_an_unknown_address_gets_the_same_response_and_no_message(
    mailbox: Mailbox, stranger: Client, purpose: str
) -> None:
    await ask(stranger, purpose, "nobody@example.org")
    await ask(stranger, purpose, "\ufdfa" * 200 + "@example.org")
    await outbox_empties()
    assert mailbox.messages == []
    refused = await stranger.post(f"/v1/{purpose}", json={"email": "nobody"})
    assert faults(refused) == {"/email": "Must be an e-mail address."}


async def test_a_suspended_user_gets_no_message_and_older_links_are_refused(
    mailbox: Mailbox, alice: Client, stranger: Client
) -> None:
    await ask(stranger, "password-resets", "alice@example.org")
    token = await mailbox.token(RESET)
    await User.update({User.status: "suspended"}, force=True)
    assert (await reset(stranger, token)).status_code == 404
    await EmailToken.delete(force=True)
    await ask(stranger, "password-resets", "alice@example.org")
    await outbox_empties()
    assert len(mailbox.messages) == 2


async def test_a_refused_password_does_not_use_up_the_token(mailbox: Mailbox, alice: Client, stranger: Client) -> None:
    await ask(stranger, "password-resets", "alice@example.org")
    token = await mailbox.token(RESET)
    for password in ("qwertyuiop", "alice12345", "short"):
        refused = await reset(stranger, token, password)
        assert (refused.status_code, faults(refused).keys()) == (422, {"/password"})
    assert (await reset(stranger, token)).status_code == 204


async def test_of_two_concurrent_resets_one_succeeds(mailbox: Mailbox, alice: Client, stranger: Client) -> None:
    await ask(stranger, "password-resets", "alice@example.org")
    token = await mailbox.token(RESET)
    answers = await asyncio.gather(*(reset(stranger, token, f"{NEW} {number}") for number in range(4)))
    assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404]


@pytest.mark.parametrize(("purpose", "lifetime"), [("reset", 30), ("verification", 24 * 60)])
async def test_a_token_expires(mailbox: Mailbox, alice: Client, stranger: Client, purpose: str, lifetime: int) -> None:
    await ask(stranger, "password-resets", "alice@example.org")
    tokens = {"reset": await mailbox.token(RESET), "verification": await mailbox.token(VERIFY)}
    row = await EmailToken.select().where(EmailToken.purpose == purpose).first()
    assert row is not None
    assert row["expires_at"] - row["created_at"] == timedelta(minutes=lifetime)
    await EmailToken.update({EmailToken.expires_at: datetime.now(UTC)}).where(EmailToken.purpose == purpose)
    if purpose == "reset":
        assert (await reset(stranger, tokens[purpose])).status_code == 404
    else:
        assert await verify(stranger, tokens[purpose]) == 404
    assert (await purge_everything())["email tokens"] == 1


async def test_a_repeated_request_sends_nothing_for_a_minute_and_then_replaces_the_token(
    mailbox: Mailbox, alice: Client, stranger: Client
) -> None:
    for _ in range(3):
        await ask(stranger, "password-resets", "alice@example.org")
        await outbox_empties()
    assert [message["subject"] for message in mailbox.messages].count("A new password for your account") == 1
    first = await mailbox.token(RESET)
    await EmailToken.update({EmailToken.created_at: datetime.now(UTC) - timedelta(minutes=2)}, force=True)
    await ask(stranger, "password-resets", "alice@example.org")
    second = await mailbox.token(RESET, 2)
    assert (await reset(stranger, first)).status_code == 404
    assert (await reset(stranger, second)).status_code == 204


def limit(monkeypatch: pytest.MonkeyPatch, limit: Limit, most: int) -> None:
    monkeypatch.setitem(limit.__dict__, "most", most)


@pytest.mark.parametrize(("bound", "most"), [(RECIPIENT_OF_LINKS, 1), (RECIPIENT, 2)])
async def test_new_addresses_write_to_nobody_more_often_than_a_recipient_may_get(
    mailbox: Mailbox, alice: Client, monkeypatch: pytest.MonkeyPatch, bound: Limit, most: int
) -> None:
    limit(monkeypatch, bound, most)
    victim = f"victim-of-{bound.name}@example.org"
    for number in range(4):
        for email in (victim, f"own-{number}-{bound.name}@example.org"):
            change = {"email": email, "current_password": PASSWORD}
            assert (await alice.patch("/v1/users/me", json=change)).status_code == 200
            await outbox_empties()
    assert [message["to"] for message in mailbox.messages if VERIFY in message["subject"]].count(victim) == most


async def test_many_addresses_write_to_nobody_more_often_than_a_recipient_may_get(
    app: Any, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, RECIPIENT, 2)
    limit(monkeypatch, RECIPIENT_OF_LINKS, 100)
    member = await signed_in(app, "vanessa")
    for number in range(12):
        async with client(app, f"192.0.2.{number}", **member.headers) as elsewhere:
            await ask(elsewhere, "password-resets", "vanessa@example.org")
        await EmailToken.update({EmailToken.created_at: datetime.now(UTC) - timedelta(minutes=2)}, force=True)
        await outbox_empties()
    assert [message["subject"] for message in mailbox.messages].count("A new password for your account") == 2


async def test_a_recipient_of_too_many_keeps_the_link_that_arrived(
    app: Any, mailbox: Mailbox, stranger: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, RECIPIENT, 1)
    await signed_in(app, "violet")
    await ask(stranger, "password-resets", "violet@example.org")
    token = await mailbox.token(RESET)
    for _ in range(2):
        await EmailToken.update({EmailToken.created_at: datetime.now(UTC) - timedelta(minutes=2)}, force=True)
        await ask(stranger, "password-resets", "Violet@example.org")
        await outbox_empties()
    assert [message["subject"] for message in mailbox.messages].count("A new password for your account") == 1
    assert (await reset(stranger, token)).status_code == 204


async def test_requests_that_send_nothing_use_nothing_up(
    app: Any, mailbox: Mailbox, stranger: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, RECIPIENT, 1)
    for _ in range(3):
        await ask(stranger, "email-verifications", "vera@example.org")
        await outbox_empties()
    await signed_in(app, "vera")
    assert (await mailbox.arrived(VERIFY))["to"] == "vera@example.org"


async def test_notices_to_one_recipient_are_bounded_by_kind(
    app: Any, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, RECIPIENT, 2)
    vincent = await signed_in(app, "vincent")
    await User.update({User.email_verified_at: datetime.now(UTC)}, force=True)
    for _ in range(4):
        await with_key(app, vincent, "characters:read")
        await outbox_empties()
    change = {"current_password": PASSWORD, "new_password": NEW}
    assert (await vincent.put("/v1/users/me/password", json=change)).status_code == 204
    await mailbox.arrived(PASSWORD_CHANGED)
    assert [KEY_CREATED in message["subject"] for message in mailbox.messages].count(True) == 2


async def test_a_token_works_for_its_own_purpose_only(
    app: Any, mailbox: Mailbox, alice: Client, stranger: Client
) -> None:
    token = await mailbox.token(VERIFY)
    assert (await reset(stranger, token)).status_code == 404
    pretender = client(app, Authorization=f"Bearer {token}")
    assert (await pretender.get("/v1/users/me")).status_code == 401
    session = alice.headers["authorization"].removeprefix("Bearer ")
    for other in (session, token[:-1] + "x", "nothing", "", "a" * 256):
        assert await verify(stranger, other) == 404
    assert await verify(stranger, token) == 204


async def test_email_tokens_are_stored_as_hashes(mailbox: Mailbox, alice: Client, stranger: Client) -> None:
    token = await mailbox.token(VERIFY)
    await outbox_empties()
    rows = await EmailToken.select()
    assert token not in str(rows)
    assert len(rows[0]["digest"]) == 32


async def test_a_key_resets_no_password(app: Any, mailbox: Mailbox, alice: Client) -> None:
    program = await with_key(app, alice, "characters:read")
    for path in ("password-resets", "email-verifications"):
        assert (await program.post(f"/v1/{path}", json={"email": "alice@example.org"})).status_code == 403


async def test_no_token_is_logged(mailbox: Mailbox, alice: Client, stranger: Client) -> None:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line) + str(line.record["extra"])), level="INFO")
    token = await mailbox.token(VERIFY)
    assert await verify(stranger, token) == 204
    logger.remove(sink)
    assert any("/v1/email-verifications" in line for line in lines)
    assert token not in "".join(lines)


@pytest.mark.parametrize(
    ("given", "is_purged"),
    [
        ({}, True),
        ({User.created_at: datetime.now(UTC) - timedelta(days=29)}, False),
        ({User.must_verify: False}, False),
        ({User.status: "suspended"}, True),
    ],
    ids=["never verified", "younger", "verified once, or signed up while no mail was sent", "suspended"],
)
async def test_an_account_is_purged_30_days_after_sign_up_unless_an_address_was_verified(
    alice: Client, given: dict[Any, Any], is_purged: bool
) -> None:
    await character(alice)
    await User.update({User.created_at: datetime.now(UTC) - timedelta(days=31)} | given, force=True)
    assert (await purge_everything())["accounts"] == is_purged
    assert await User.exists().where(User.username == "alice") is not is_purged
    assert await Character.exists() is not is_purged


async def test_an_account_that_was_verified_once_stays(
    app: Any, mailbox: Mailbox, alice: Client, stranger: Client
) -> None:
    await verify(stranger, await mailbox.token(VERIFY))
    alice = await signed_in_again(app)
    await alice.patch("/v1/users/me", json={"email": "alice@example.net", "current_password": PASSWORD})
    assert (await me(alice))["email_verified"] is False
    await User.update({User.created_at: datetime.now(UTC) - timedelta(days=31)}, force=True)
    assert (await purge_everything())["accounts"] == 0


@pytest.mark.parametrize(("days", "released"), [(29, 0), (31, 1)])
async def test_a_changed_address_is_released_after_30_days_unless_it_is_verified(
    app: Any, mailbox: Mailbox, alice: Client, stranger: Client, days: int, released: int
) -> None:
    alice = await verified(app, mailbox, alice)
    for email in ("victim@example.org", "Victim@example.org"):
        await alice.patch("/v1/users/me", json={"email": email, "current_password": PASSWORD})
        if email == "victim@example.org":
            past = datetime.now(UTC) - timedelta(days=days)
            await User.update({User.email_changed_at: past}, force=True)
    before = await me(alice)
    assert (await purge_everything())["unverified addresses"] == released
    after = await me(alice)
    expected = {"email": None, "version": before["version"] + 1} if released else {"email": "Victim@example.org"}
    assert after == before | expected | {"updated_at": after["updated_at"]}
    assert await sign_in(stranger, PASSWORD) == 201, "by the username"
    victim = {"email": "victim@example.org", "username": "victim", "password": PASSWORD}
    assert (await stranger.post("/v1/users", json=victim)).status_code == (201 if released else 409)


async def test_an_address_that_is_verified_in_time_is_kept(app: Any, mailbox: Mailbox, alice: Client) -> None:
    alice = await verified(app, mailbox, alice)
    await alice.patch("/v1/users/me", json={"email": "alice@example.net", "current_password": PASSWORD})
    await User.update({User.email_changed_at: datetime.now(UTC) - timedelta(days=31)}, force=True)
    alice = await verified(app, mailbox, alice, 2)
    assert (await purge_everything())["unverified addresses"] == 0
    assert (await User.select(User.email_changed_at).first()) == {"email_changed_at": None}
    await alice.patch("/v1/users/me", json={"email": "ALICE@example.net", "current_password": PASSWORD})
    row = await User.select(User.email_changed_at).first()
    assert row is not None
    assert row["email_changed_at"] is not None


async def test_an_address_is_kept_if_no_mail_could_verify_it(
    app: Any, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = msgspec.structs.replace(settings, environment="production", smtp_host="")
    monkeypatch.setattr("service.users.queries.settings", configured)
    await alice.patch("/v1/users/me", json={"email": "alice@example.net", "current_password": PASSWORD})
    assert (await User.select(User.email, User.email_changed_at).first()) == {
        "email": "alice@example.net",
        "email_changed_at": None,
    }


async def test_an_account_that_no_mail_could_reach_stays(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    configured = msgspec.structs.replace(settings, environment="production", smtp_host="")
    monkeypatch.setattr("service.users.queries.settings", configured)
    await signed_in(app, "bea")
    assert await User.exists().where(User.must_verify.eq(True)) is False


async def test_a_failed_sign_up_sends_no_message(app: Any, mailbox: Mailbox, stranger: Client) -> None:
    await signed_in(app, "bea")
    await outbox_empties()
    taken = {"email": "other@example.org", "username": "bea", "password": PASSWORD}
    assert (await stranger.post("/v1/users", json=taken)).status_code == 409
    assert not await Message.exists()
    forget_tokens()
