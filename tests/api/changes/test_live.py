"""The feed of changes as a stream of server-sent events, read from a server of the tests' own."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn

from service.auth.token_cache import forget_tokens
from service.changes import listeners, live, streams
from service.changes.listeners import CHANGES
from service.database.engine import DB
from tests.conftest import character, client, faults, public, relationship, template, with_key
from tests.support.event_stream import PATIENCE, stream
from tests.support.pictures import draw_picture

Client = httpx.AsyncClient


@pytest.fixture(scope="module")
async def server(app: Any) -> AsyncIterator[str]:
    """The app on a port, as httpx's own transport waits for the end of a response."""
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, lifespan="off", access_log=False)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve([port]))
        yield f"http://127.0.0.1:{port.getsockname()[1]}"
        server.should_exit = True
        await serving


async def test_a_stream_sends_what_is_there_and_then_each_change(server: str, alice: Client) -> None:
    first = await character(alice, name="Mira", description="Two\r\nlines")
    async with stream(server, alice) as reader:
        headers = reader.response.headers
        assert headers["content-type"] == "text/event-stream"
        assert (headers["cache-control"], "content-encoding" in headers) == ("no-store", False)
        event = await reader.event()
        assert event is not None
        assert event.data == {
            "id": first["id"],
            "version": 1,
            "kind": "character",
            "deleted": False,
            "character": first,
        }
        await reader.begin()
        second = await character(alice)
        assert await reader.changes(1) == [(second["id"], 1, False)]
        await alice.patch(f"/v1/characters/{first['id']}", json={"name": "Mira Halloran"})
        assert await reader.changes(1) == [(first["id"], 2, False)]
        await alice.delete(f"/v1/characters/{first['id']}")
        assert await reader.changes(1) == [(first["id"], 3, True)]


async def test_a_new_portrait_changes_its_character(server: str, alice: Client) -> None:
    made = await character(alice)
    async with stream(server, alice) as reader:
        await reader.begin(1)
        await alice.put(f"/v1/characters/{made['id']}/portrait", content=draw_picture("PNG"))
        event = await reader.event()
        assert event is not None
        assert event.data["character"] == (await alice.get(f"/v1/characters/{made['id']}")).json()
        assert event.data["character"]["portrait"]["url"]
        await alice.delete(f"/v1/characters/{made['id']}/portrait")
        assert await reader.changes(1) == [(made["id"], 3, False)]


async def test_a_page_that_ends_early_is_not_the_last(
    server: str, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [(await character(alice, name=f"{number}"))["id"] for number in range(4)]
    monkeypatch.setattr("service.lists.sizes.MAX_PAGE_SIZE", 1)
    async with stream(server, alice) as reader:
        assert [each[0] for each in await reader.changes(4)] == made
        await reader.begin()
        assert reader.comments == 1  # the first; each read that waited has one


@pytest.mark.parametrize("by_header", [True, False])
async def test_a_stream_continues_behind_any_event(server: str, alice: Client, by_header: bool) -> None:
    made = [(await character(alice, name=f"{number}"))["id"] for number in range(4)]
    async with stream(server, alice) as reader:
        events = [await reader.event() for _ in range(3)]
    ids = [event.id for event in events if event]
    for count, id_ in enumerate(ids, 1):
        again = {"Last-Event-ID": id_} if by_header else {}
        async with stream(server, alice, None if by_header else id_, **again) as reader:
            assert [each[0] for each in await reader.changes(4 - count)] == made[count:]
            await reader.begin()
    page = (await alice.get("/v1/changes", params={"after": ids[0]})).json()
    assert [item["id"] for item in page["items"]] == made[1:]


async def test_the_last_event_id_takes_precedence_and_must_be_valid(server: str, alice: Client) -> None:
    await character(alice)
    async with stream(server, alice) as reader:
        start = await reader.begin(1)
    of_no_list = f"{'A' * 12}W10"
    async with stream(server, alice, of_no_list, **{"Last-Event-ID": start.id}) as reader:
        await reader.begin()
    async with stream(server, alice, **{"Last-Event-ID": "x"}) as reader:
        assert reader.response.status_code == 400
        assert faults(reader.response) == {"Last-Event-ID": "Is not a cursor of this list; start again without it."}


async def test_a_stream_has_only_the_users_own_characters(
    server: str, app: Any, alice: Client, charlie: Client, stranger: Client
) -> None:
    async with stream(server, charlie) as charlies, stream(server, alice) as alices:
        await charlies.begin()
        await alices.begin()
        await public(alice)
        mine = await character(charlie)
        assert await charlies.changes(1) == [(mine["id"], 1, False)]
        assert len(await alices.changes(1)) == 1
    assert (await stranger.get("/v1/changes", headers={"Accept": "text/event-stream"})).status_code == 401
    other = await with_key(app, alice, "characters:write")
    assert (await other.get("/v1/changes", headers={"Accept": "text/event-stream"})).status_code == 403


async def test_a_change_that_waits_for_an_older_transaction_comes_later(server: str, alice: Client) -> None:
    async with stream(server, alice) as reader:
        await reader.begin()
        older = await DB.get_new_connection()
        try:
            transaction = older.transaction()
            await transaction.start()
            await older.execute("SELECT pg_current_xact_id()")
            made = await character(alice)
            waiting = asyncio.create_task(reader.changes(1))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await transaction.commit()
            assert await waiting == [(made["id"], 1, False)]
        finally:
            await older.close()


async def test_a_dry_run_and_another_users_change_wake_nobody(server: str, alice: Client, charlie: Client) -> None:
    async with stream(server, alice) as reader:
        await reader.begin()
        await _settled()
        (event,) = CHANGES.waiting[(await alice.get("/v1/users/me")).json()["id"]]
        await alice.post("/v1/characters?dry_run=true", json={"name": "Mira"})
        await character(charlie)
        await asyncio.sleep(0.02)
        assert not event.is_set()
        await character(alice)
        await reader.changes(1)
    assert CHANGES.waiting == {} or await _gone()


async def test_only_changes_of_users_with_open_streams_are_notified_of(
    server: str, alice: Client, charlie: Client
) -> None:
    heard: list[str] = []
    connection = await DB.get_new_connection()
    try:
        await connection.add_listener("changes", lambda *arguments: heard.append(arguments[-1]))
        async with stream(server, charlie) as reader:
            await reader.begin()
            await character(alice)
            await character(charlie)
            await reader.changes(1)
        await connection.execute("SELECT")
        assert heard == [(await charlie.get("/v1/users/me")).json()["id"]]
    finally:
        await connection.close()


async def test_a_transaction_that_began_before_the_stream_is_not_missed(server: str, alice: Client) -> None:
    made = await character(alice)
    older = await DB.get_new_connection()
    try:
        transaction = older.transaction()
        await transaction.start()
        await older.execute("UPDATE characters SET name = 'Later', version = 2 WHERE id = $1", made["id"])
        async with stream(server, alice) as reader:
            await reader.begin(1)
            await listeners.wake_settled()
            assert listeners._unsettled, "the older transaction has not ended"
            await transaction.commit()
            assert await reader.changes(1) == [(made["id"], 2, False)]
    finally:
        await older.close()


@pytest.mark.parametrize("how", ["deleted", "late"])
async def test_a_stream_whose_registration_lapsed_registers_again(server: str, alice: Client, how: str) -> None:
    async with stream(server, alice) as reader:
        await reader.begin()
        await _settled()
        await DB.run_ddl("DELETE FROM change_listeners")
        missed = await character(alice)
        if how == "late":  # and another stream of the user has registered meanwhile
            async with stream(server, alice) as other:
                await other.begin(1)
            await listeners.renew(listeners.LIFETIME + 1)
        else:
            await listeners.renew(listeners.RENEWED_EVERY)
        assert await reader.changes(1) == [(missed["id"], 1, False)]
        made = await character(alice)
        assert await reader.changes(1) == [(made["id"], 1, False)]


async def test_rows_that_are_not_renewed_are_deleted(server: str, alice: Client) -> None:
    async with stream(server, alice) as reader:
        await reader.begin()
        await DB.run_ddl(
            "INSERT INTO change_listeners VALUES (gen_random_uuid(), gen_random_uuid(), now() - interval '1 s')"
        )
        await DB.run_ddl("UPDATE change_listeners SET until = now() - interval '1 s'")
        await listeners.renew(listeners.RENEWED_EVERY)
        (left,) = await DB._run_in_new_connection("SELECT * FROM change_listeners")
        assert str(left["user"]) == (await alice.get("/v1/users/me")).json()["id"]


async def _settled() -> None:
    """Returns when no stream waits for older transactions."""
    async with asyncio.timeout(PATIENCE):
        while listeners._unsettled:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)  # what was woken reads


async def _gone() -> bool:
    """Whether the server soon notices that its clients left."""
    for _ in range(100):
        if not CHANGES.waiting and not streams._ends:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_a_stream_without_changes_has_heartbeats(
    server: str, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_EVERY", 0.01)
    async with stream(server, alice) as reader:
        await reader.begin()
        await asyncio.sleep(0.05)
        await character(alice)
        await reader.changes(1)
        assert reader.comments > 2


async def test_an_old_cursor_is_renewed_while_nothing_changes(
    server: str, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_EVERY", 0.01)
    monkeypatch.setattr(live, "RENEWED_EVERY", 0.02)
    async with stream(server, alice) as reader:
        assert (await reader.begin()).id != (await reader.begin()).id


async def test_a_user_has_a_few_streams_at_once(
    server: str, alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "settings", type("Settings", (), {"max_change_streams": 2}))
    async with stream(server, alice) as first, stream(server, alice) as second:
        await first.begin()
        await second.begin()
        async with stream(server, alice) as third:
            assert (third.response.status_code, third.response.headers["retry-after"]) == (429, "5")
            assert third.response.json()["type"] == "/problems/too-many-requests"
        async with stream(server, charlie) as other:
            await other.begin()
    assert await _gone()
    async with stream(server, alice) as again:
        await again.begin()


async def test_an_address_has_a_bounded_number_of_streams(
    server: str, alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "settings", type("Settings", (), {"max_change_streams": 1}))
    monkeypatch.setattr(streams, "USERS_OF_ADDRESS", 1)
    async with stream(server, alice) as first:
        await first.begin()
        async with stream(server, charlie) as second:
            assert (second.response.status_code, second.response.headers["retry-after"]) == (429, "5")
            assert second.response.json()["detail"] == "Your address has 1 open streams: close one."
    assert await _gone()
    async with stream(server, charlie) as again:
        await again.begin()
    assert await _gone()
    assert not streams._of_address


@pytest.mark.parametrize("how", ["sign_out", "suspend", "revoke_elsewhere"])
async def test_a_stream_ends_soon_after_its_token(
    server: str, alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    assert streams.CHECKED_EVERY < 5
    async with stream(server, alice) as reader, stream(server, charlie) as other:
        await reader.begin()
        await other.begin()
        await streams._end_streams_of_invalid_tokens()
        match how:
            case "sign_out":
                assert (await alice.delete("/v1/sessions/current")).status_code == 204
            case "suspend":
                await DB.run_ddl("UPDATE users SET status = 'suspended' WHERE username = 'alice'")
            case _:
                await DB.run_ddl("DELETE FROM tokens WHERE \"user\" = (SELECT id FROM users WHERE username = 'alice')")
        await streams._end_streams_of_invalid_tokens()
        assert await reader.event() is None
        assert reader.retry is not None
        forget_tokens()
        async with stream(server, alice) as refused:
            assert refused.response.status_code == 401
        made = await character(charlie)
        assert await other.changes(1) == [(made["id"], 1, False)]


async def test_all_streams_end_when_the_service_does(
    server: str, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_is_ending", False)  # and after the test, too
    async with stream(server, alice) as reader:
        await reader.begin()
        streams.end_all()
        assert await reader.event() is None
        async with stream(server, alice) as late:
            assert await late.event() is None
    assert reader.retry is not None
    assert late.retry is not None


async def test_a_broken_connection_loses_no_change(server: str, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.database.notifications._PAUSE", 0.1)
    async with stream(server, alice) as reader:
        await reader.begin()
        ended = await DB._run_in_new_connection(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %' OR query = 'SELECT'"
        )
        assert len(ended) == 1
        made = await character(alice)
        assert await reader.changes(1) == [(made["id"], 1, False)]


async def test_an_open_stream_is_no_request_in_flight_and_holds_no_connection(
    server: str, app: Any, alice: Client
) -> None:
    async with stream(server, alice) as reader:
        await reader.begin()
        metrics = (await client(app).get("/metrics")).text
        assert "change_streams_open 1.0" in metrics
        assert "requests_in_flight 0.0" in metrics
        pool = DB.pool
        for _ in range(50):  # a statement of the service itself may be running
            if DB.idle_connections() == pool.get_size():
                break
            await asyncio.sleep(0.1)
        assert DB.idle_connections() == pool.get_size()


async def test_head_ends_at_once(server: str, alice: Client) -> None:
    answer = await alice.head("/v1/changes", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "text/event-stream", b"")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/event-stream"])
async def test_others_get_json(alice: Client, accept: str) -> None:
    answer = await alice.get("/v1/changes", headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"
    assert "Accept" in answer.headers["vary"]


async def test_a_stream_sends_only_its_kinds(server: str, alice: Client) -> None:
    fighter, mira = await template(alice), await character(alice)
    async with stream(server, alice, kind="template,relationship") as reader:
        await reader.begin(1)  # at once: the later character does not keep the stream waiting
        await alice.patch(f"/v1/templates/{fighter['id']}", json={"name": "Renamed"})
        assert await reader.changes(1) == [(fighter["id"], 2, False)]
        made = await relationship(alice, mira, await character(alice))
        assert await reader.changes(1) == [(made["id"], 1, False)]
        await alice.delete(f"/v1/characters/{mira['id']}")
        assert await reader.changes(1) == [(made["id"], 2, True)]
