"""The audit log: who did what to which row, from where, and no way to say otherwise afterwards."""

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from service.audit.tables import AuditEntry
from service.commands.purge import purge_everything
from service.database.engine import DB
from service.users.tables import User
from tests.api.exports.test_exports import export, of_kind
from tests.conftest import PASSWORD, character, client, create, template

Client = httpx.AsyncClient

NEW_PASSWORD = "another long password"


async def entries(request_id: str) -> list[Any]:
    rows = AuditEntry.select().where(AuditEntry.request_id == request_id).order_by(AuditEntry.id)
    return await rows.output(load_json=True)


async def recorded(member: Client, method: str, path: str, body: Any = None, **headers: str) -> list[Any]:
    """The entries that a successful request leaves in the audit log."""
    headers["X-Request-ID"] = str(uuid4())
    answer = await member.request(method, path, json=body, headers=headers)
    assert answer.is_success, answer.text
    return await entries(headers["X-Request-ID"])


async def id_of(member: Client) -> UUID:
    return UUID((await member.get("/v1/users/me")).json()["id"])


async def test_a_sign_in_is_recorded_with_user_and_address(alice: Client, stranger: Client) -> None:
    credentials = {"login": "alice", "password": PASSWORD}
    [entry] = await recorded(stranger, "POST", "/v1/sessions", credentials, **{"User-Agent": "Lynx/2.9"})
    sessions = (await alice.get("/v1/sessions")).json()["items"]
    assert entry["action"] == "sign_in"
    assert (entry["kind"], entry["row"]) == ("session", sessions[0]["id"])
    assert entry["member"] == await id_of(alice)
    assert (entry["address"], entry["device"], entry["token"]) == ("127.0.0.1", "Lynx/2.9", None)
    assert entry["operator"] is None


@pytest.mark.parametrize("login", ["alice", "ALICE@example.org", "nobody-there"])
async def test_a_wrong_password_is_recorded_without_the_password(alice: Client, stranger: Client, login: str) -> None:
    credentials = {"login": login, "password": "hunter2 hunter2"}
    answer = await stranger.post("/v1/sessions", json=credentials, headers={"X-Request-ID": (mark := str(uuid4()))})
    assert answer.status_code == 401
    [entry] = await entries(mark)
    assert (entry["action"], entry["kind"], entry["member"]) == ("refuse_password", "user", None)
    assert entry["row"] == (None if login == "nobody-there" else str(await id_of(alice)))
    assert "hunter2" not in str(entry)
    assert "nobody-there" not in str(entry)


async def test_the_sign_in_of_a_suspended_user_is_recorded(alice: Client, stranger: Client) -> None:
    who = await id_of(alice)
    await User.update({User.status: "suspended"}, force=True)
    credentials = {"login": "alice", "password": PASSWORD}
    answer = await stranger.post("/v1/sessions", json=credentials, headers={"X-Request-ID": (mark := str(uuid4()))})
    assert answer.status_code == 401
    [entry] = await entries(mark)
    assert (entry["action"], entry["row"]) == ("refuse_password", str(who))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/users/me/password", {"current_password": "hunter2 hunter2", "new_password": NEW_PASSWORD}),
        ("DELETE", "/v1/users/me", {"password": "hunter2 hunter2"}),
    ],
)
async def test_a_wrong_current_password_is_recorded(alice: Client, method: str, path: str, body: Any) -> None:
    answer = await alice.request(method, path, json=body, headers={"X-Request-ID": (mark := str(uuid4()))})
    assert answer.status_code == 403
    [entry] = await entries(mark)
    who = await id_of(alice)
    assert (entry["action"], entry["kind"], entry["row"], entry["member"]) == ("refuse_password", "user", str(who), who)
    assert entry["token"] is not None
    assert "hunter2" not in str(entry)


async def test_deletions_and_visibility_changes_are_recorded(alice: Client) -> None:
    who, session = await id_of(alice), UUID((await alice.get("/v1/sessions")).json()["items"][0]["id"])
    mira, rules = await character(alice), await template(alice)
    for thing, made in (("character", mira), ("template", rules)):
        for method, body, expected in [
            ("PATCH", {"visibility": "public"}, ["change_visibility"]),
            ("PATCH", {"visibility": "public"}, []),
            ("PATCH", {"name": "Otto"}, []),
            ("DELETE", None, ["trash_character" if thing == "character" else "retire_template"]),
        ]:
            found = await recorded(alice, method, f"/v1/{thing}s/{made['id']}", body)
            assert [entry["action"] for entry in found] == expected
            for entry in found:
                assert (entry["kind"], entry["row"]) == (thing, made["id"])
                assert (entry["member"], entry["token"]) == (who, session)
                if entry["action"] == "change_visibility":
                    assert entry["detail"] == {"before": "private", "after": "public"}
    [restored] = await recorded(alice, "POST", f"/v1/trash/{mira['id']}/restorations")
    assert (restored["action"], restored["row"]) == ("restore_character", mira["id"])
    await alice.delete(f"/v1/characters/{mira['id']}")
    [purged] = await recorded(alice, "DELETE", f"/v1/trash/{mira['id']}")
    assert (purged["action"], purged["kind"], purged["row"]) == ("purge_character", "character", mira["id"])


async def test_creating_editing_and_reading_are_not_recorded(alice: Client) -> None:
    mira = await character(alice)
    path = f"/v1/characters/{mira['id']}"
    assert await recorded(alice, "POST", "/v1/characters", {"name": "Otto", "visibility": "public"}) == []
    assert await recorded(alice, "PATCH", path, {"attributes": {"strength": 3}}) == []
    assert await recorded(alice, "GET", path) == []


async def test_bulk_changes_are_recorded_one_by_one(alice: Client) -> None:
    made = [(await character(alice))["id"] for _ in range(3)]
    shown = [{"action": "update", "id": each, "body": {"visibility": "public"}} for each in made]
    found = await recorded(alice, "POST", "/v1/characters/bulk", {"operations": shown})
    assert [(entry["action"], entry["row"]) for entry in found] == [("change_visibility", each) for each in made]


async def test_a_refused_change_is_not_recorded(alice: Client, charlie: Client) -> None:
    mira = await character(alice, visibility="public")
    assert await recorded(alice, "DELETE", f"/v1/characters/{mira['id']}?dry_run=true") == []
    refused = await charlie.delete(f"/v1/characters/{mira['id']}", headers={"X-Request-ID": (mark := str(uuid4()))})
    assert refused.status_code == 403
    assert await entries(mark) == []


async def test_a_change_that_cannot_be_recorded_is_rolled_back(alice: Client) -> None:
    mira = await character(alice)
    await DB.run_ddl("ALTER TABLE audit_log ADD CONSTRAINT full_log CHECK (action <> 'trash_character') NOT VALID")
    try:
        assert (await alice.delete(f"/v1/characters/{mira['id']}")).status_code == 500
    finally:
        await DB.run_ddl("ALTER TABLE audit_log DROP CONSTRAINT full_log")
    assert (await alice.get(f"/v1/characters/{mira['id']}")).status_code == 200


async def test_api_keys_and_sign_outs_are_recorded(app: Any, alice: Client) -> None:
    key = {"name": "program", "scopes": ["characters:write", "characters:read"], "current_password": PASSWORD}
    [made] = await recorded(alice, "POST", "/v1/api-keys", key)
    assert (made["action"], made["kind"]) == ("create_api_key", "api_key")
    assert made["detail"] == {"scopes": ["characters:read", "characters:write"]}
    [revoked] = await recorded(alice, "DELETE", f"/v1/api-keys/{made['row']}")
    assert (revoked["action"], revoked["kind"], revoked["row"]) == ("revoke_api_key", "api_key", made["row"])
    [out] = await recorded(alice, "DELETE", "/v1/sessions/current")
    assert (out["action"], out["kind"], out["row"]) == ("sign_out", "session", str(out["token"]))


async def test_signing_out_everywhere_is_recorded(alice: Client) -> None:
    who = await id_of(alice)
    [out] = await recorded(alice, "DELETE", "/v1/sessions")
    assert (out["action"], out["kind"], out["row"]) == ("sign_out", "user", str(who))


async def test_an_action_of_an_api_key_names_the_key(app: Any, alice: Client) -> None:
    key = await create(alice, "/v1/api-keys", name="program", scopes=["characters:write"], current_password=PASSWORD)
    program = client(app, Authorization=f"Bearer {key['token']}")
    [entry] = await recorded(program, "DELETE", f"/v1/characters/{(await character(alice))['id']}")
    assert entry["token"] == UUID(key["id"])


async def test_changes_of_accounts_are_recorded(alice: Client) -> None:
    who = await id_of(alice)
    for method, path, body, expected in [
        ("PATCH", "/v1/users/me", {"bio": "Writes."}, []),
        ("PATCH", "/v1/users/me", {"email": "al@example.org", "current_password": PASSWORD}, ["change_email"]),
        (
            "PUT",
            "/v1/users/me/password",
            {"current_password": PASSWORD, "new_password": NEW_PASSWORD},
            ["change_password"],
        ),
        ("DELETE", "/v1/users/me", {"password": NEW_PASSWORD}, ["delete_user"]),
    ]:
        found = await recorded(alice, method, path, body)
        assert [entry["action"] for entry in found] == expected
        assert all((entry["row"], entry["member"]) == (str(who), who) for entry in found)
        assert "al@example.org" not in str(found)
    await DB.run_ddl("UPDATE users SET deleted_at = now() - interval '31 days'")
    await purge_everything()
    [purged] = await AuditEntry.select().where(AuditEntry.action == "purge_user", AuditEntry.row == str(who))
    assert (purged["member"], purged["operator"], purged["address"]) == (None, None, None)
    assert await AuditEntry.count().where(AuditEntry.member == who) > 0


async def test_the_own_address_sent_again_is_no_change(alice: Client) -> None:
    me = (await alice.get("/v1/users/me")).json()
    same = {"email": "alice@example.org", "current_password": PASSWORD}
    assert await recorded(alice, "PATCH", "/v1/users/me", same) == []
    assert (await alice.get("/v1/users/me")).json() == me
    assert await recorded(alice, "PATCH", "/v1/users/me", same | {"bio": "Draws."}) == []
    changed = (await alice.get("/v1/users/me")).json()
    assert (changed["bio"], changed["version"]) == ("Draws.", me["version"] + 1)


async def test_users_get_their_entries_with_their_export(alice: Client, charlie: Client) -> None:
    assert (await charlie.delete(f"/v1/characters/{(await character(charlie))['id']}")).status_code == 204
    found = of_kind(await export(alice), "audit_entry")
    assert [entry["action"] for entry in found] == ["sign_in"]
    assert found[0]["address"] == "127.0.0.1"
    assert "member" not in found[0]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET action = 'read'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "WITH door AS (SELECT set_config('audit_log.purging', 'on', true)) DELETE FROM audit_log USING door",
        "INSERT INTO audit_log (id, action, kind) SELECT id, action, kind FROM audit_log LIMIT 1"
        " ON CONFLICT (id) DO UPDATE SET action = 'read'",
    ],
)
async def test_entries_cannot_be_changed_or_deleted(alice: Client, statement: str) -> None:
    before = await AuditEntry.count()
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await DB.run_ddl(statement)
    assert await AuditEntry.count() == before > 0


async def test_only_expired_entries_are_purged(alice: Client) -> None:
    def aged(days: int) -> str:
        return (
            "INSERT INTO audit_log (id, created_at, action, kind, row)"
            f" VALUES (gen_random_uuid(), now() - interval '{days} days', 'sign_in', 'session', 'aged {days}')"
        )

    for days in (31, 364, 366):
        await DB.run_ddl(aged(days))
    assert (await purge_everything())["audit entries"] == 1
    left = await AuditEntry.select(AuditEntry.row).where(AuditEntry.row.like("aged%")).order_by(AuditEntry.row)
    assert [row["row"] for row in left] == ["aged 31", "aged 364"]
    async with DB.transaction() as transaction:
        await transaction.connection.execute("SET LOCAL audit_log.purging = 'on'")
        await AuditEntry.delete().where(AuditEntry.row.like("aged%"))
