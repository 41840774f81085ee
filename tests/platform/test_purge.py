"""``piccolo service purge``: it works in small transactions."""

import asyncio
from typing import Any

import asyncpg
import pytest

from service.commands import purge
from service.database.engine import DB

LONG_AGO = "now() - interval '400 days'"
# The name in the result of purge, the table with the rows that are expired, and the INSERT of one
EXPIRED = [
    (
        "tokens",
        "tokens WHERE expires_at < now()",
        'INSERT INTO tokens (id, "user", kind, digest, expires_at)'
        f" SELECT gen_random_uuid(), users.id, 'session', $1::text::bytea, {LONG_AGO} FROM users",
    ),
    (
        "messages",
        "outbox WHERE created_at < now() - interval '2 days'",
        "INSERT INTO outbox (id, kind, address, due_at, created_at)"
        f" VALUES (gen_random_uuid(), 'reset', $1, now() + interval '1 day', {LONG_AGO})",
    ),
    (
        "operators' sessions",
        "operator_sessions WHERE expires_at < now()",
        "INSERT INTO operator_sessions (id, digest, user_id, expires_at, ends_at)"
        f" VALUES (gen_random_uuid(), $1::text::bytea, 1, {LONG_AGO}, {LONG_AGO})",
    ),
    (
        "idempotency keys",
        "idempotency_keys WHERE created_at < now() - interval '2 days'",
        'INSERT INTO idempotency_keys (id, "user", body_digest, status, body, created_at)'
        f" SELECT md5($1)::uuid, users.id, '', 201, '', {LONG_AGO} FROM users",
    ),
    (
        "unverified addresses",
        "users WHERE email_changed_at < now()",
        "INSERT INTO users (id, username, email, email_key, email_changed_at)"
        f" VALUES (gen_random_uuid(), $1::text, $1::text, $1::text, {LONG_AGO})",
    ),
    (
        "reserved usernames",
        "reserved_usernames WHERE until < now()",
        f"INSERT INTO reserved_usernames (username, until) VALUES ($1, {LONG_AGO})",
    ),
    (
        "audit entries",
        "audit_log WHERE created_at < now() - interval '399 days'",
        'INSERT INTO audit_log (id, created_at, action, kind, "row")'
        f" VALUES (gen_random_uuid(), {LONG_AGO}, 'sign_in', 'session', $1)",
    ),
]


@pytest.mark.parametrize(("name", "expired", "insert"), EXPIRED, ids=[name for name, _, _ in EXPIRED])
async def test_what_has_expired_is_deleted_in_small_transactions(
    alice: Any, monkeypatch: pytest.MonkeyPatch, name: str, expired: str, insert: str
) -> None:
    """A row that somebody else holds keeps its own batch waiting, and no batch before it."""
    monkeypatch.setattr(purge, "BATCH", 2)
    other = await asyncpg.connect(DB.config["dsn"])
    try:
        for number in range(5):
            await other.execute(insert, f"late-{number}")
        async with other.transaction():
            last = f"(SELECT max(ctid) FROM {expired})"
            await other.execute(f"SELECT FROM {expired} AND ctid = {last} FOR UPDATE")
            purging = asyncio.create_task(purge.purge_everything())
            async with asyncio.timeout(5):
                while await other.fetchval(f"SELECT count(*) FROM {expired}") > 1:
                    assert not purging.done()
                    await asyncio.sleep(0.02)
        assert (await purging)[name] == 5
        assert await other.fetchval(f"SELECT count(*) FROM {expired}") == 0
    finally:
        await other.close()
