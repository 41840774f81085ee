"""The export: everything a member owns, however much, and nothing else."""

import asyncio
import gc
import json
import re
import tracemalloc
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from service.database import embedded
from service.database.engine import DB
from service.database.shares import FROM_ADDRESS
from service.errors import Unavailable
from service.exports import queries
from service.limits import turns
from service.limits.budget import Budget
from service.web.middleware import slow_readers
from tests.conftest import PASSWORD, character, client, create, relationship, signed_in, template, with_key
from tests.support.servers import Service, execute, service_of_its_own, wait_until

Client = httpx.AsyncClient


async def export(member: Client) -> list[Any]:
    answer = await member.get("/v1/users/me/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.content.endswith(b"\n")
    return [json.loads(line) for line in answer.content.splitlines()]


def of_kind(lines: list[Any], kind: str) -> list[Any]:
    return [{name: value for name, value in line.items() if name != "kind"} for line in lines if line["kind"] == kind]


def characters_of(owner: str, number: int) -> str:
    return (
        "INSERT INTO characters (id, owner, name, tags, attributes)"
        f" SELECT gen_random_uuid(), '{owner}', 'Mira ' || n, '{{}}', jsonb_build_object('text', repeat('x', 1000))"
        f" FROM generate_series(1, {number}) AS n"
    )


async def fill(member: Client, number: int) -> None:
    await DB.run_ddl(characters_of((await member.get("/v1/users/me")).json()["id"], number))


async def all_connections_idle() -> bool:
    """Within a second."""
    for _ in range(100):
        if DB.idle_connections() == DB.pool.get_size():
            return True
        await asyncio.sleep(0.01)
    return False


async def test_an_export_contains_everything(app: Any, alice: Client) -> None:
    await with_key(app, alice, "characters:read")
    rules = await template(alice)
    draft = await create(alice, f"/v1/templates/{rules['id']}/versions", attribute_schema={"type": "object"})
    mira, otto = await character(alice, name="Mira", template=rules["id"]), await character(alice, name="Otto")
    await alice.patch(f"/v1/characters/{mira['id']}", json={"name": "Mira Halloran"})
    related = await relationship(alice, mira, otto)
    await alice.delete(f"/v1/characters/{otto['id']}")
    ended = await character(alice, name="Ended")
    await alice.delete(f"/v1/characters/{ended['id']}")
    await alice.delete(f"/v1/trash/{ended['id']}")

    lines = await export(alice)

    assert of_kind(lines, "profile") == [(await alice.get("/v1/users/me")).json()]
    sessions = (await alice.get("/v1/sessions")).json()["items"]
    assert of_kind(lines, "session") == [
        {name: value for name, value in session.items() if name != "current"} for session in sessions
    ]
    assert of_kind(lines, "api_key") == (await alice.get("/v1/api-keys")).json()["items"]
    assert [each["id"] for each in of_kind(lines, "template")] == [rules["id"]]
    first, second = of_kind(lines, "template_version")
    assert (first["number"], first["attribute_schema"]) == (1, rules["attribute_schema"])
    assert second == draft
    there, in_trash = of_kind(lines, "character")
    assert there == (await alice.get(f"/v1/characters/{mira['id']}")).json() | {"deleted_at": None}
    assert (in_trash["id"], bool(in_trash["deleted_at"])) == (otto["id"], True)
    renamed, deleted = of_kind(lines, "revision")
    assert (renamed["character"], renamed["number"], renamed["replaced"]) == (mira["id"], 2, {"name": "Mira"})
    assert (deleted["character"], deleted["replaced"]) == (otto["id"], {"deleted_at": None})
    [shown] = of_kind(lines, "relationship")
    assert shown | {"version": 1, "updated_at": related["updated_at"]} == related, "raised as Otto is in the trash"


async def test_an_export_contains_only_the_users_own_data_and_no_secrets(
    app: Any, alice: Client, charlie: Client
) -> None:
    made = await character(charlie, visibility="public")
    await template(charlie, visibility="public")
    lines = await export(alice)
    assert {line["kind"] for line in lines} == {"profile", "session", "audit_entry"}
    assert made["id"] not in json.dumps(lines)
    text = json.dumps(await export(charlie))
    token = charlie.headers["Authorization"].partition(" ")[2]
    assert not any(secret in text for secret in ("password", "digest", "argon2", token, PASSWORD))


async def test_an_export_needs_a_session(app: Any, alice: Client, stranger: Client) -> None:
    program = await with_key(app, alice, "characters:read", "templates:read")
    assert (await program.get("/v1/users/me/export")).status_code == 403
    assert (await stranger.get("/v1/users/me/export")).status_code == 401


async def test_a_row_is_one_line_whatever_its_json_looks_like(alice: Client) -> None:
    await template(alice)
    await DB.run_ddl(
        """UPDATE template_versions SET attribute_schema = E'{\n  "type": "object",\n "title": "a\\\\nb"\n}'"""
    )
    (version,) = of_kind(await export(alice), "template_version")
    assert version["attribute_schema"] == {"type": "object", "title": "a\nb"}


async def test_an_export_is_one_snapshot_with_every_row_once(alice: Client) -> None:
    await fill(alice, 60)
    me = (await alice.get("/v1/users/me")).json()["id"]
    pieces = await queries.export_account(queries.Caller(id=me))
    read = [await anext(pieces) for _ in range(3)]
    await DB.run_ddl("UPDATE characters SET name = 'Changed'")
    await DB.run_ddl("DELETE FROM characters WHERE id IN (SELECT id FROM characters LIMIT 10)")
    read += [piece async for piece in pieces]
    lines = [json.loads(line) for line in b"".join(read).splitlines()]
    names = [line["name"] for line in of_kind(lines, "character")]
    assert sorted(names) == sorted(f"Mira {number}" for number in range(1, 61))


async def test_head_reads_only_the_first_piece(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    read_piece = queries._Spool.read

    async def count(spool: Any, at: int) -> bytes:
        read.append(at)
        return await read_piece(spool, at)

    monkeypatch.setattr(queries, "PIECE", 16)
    monkeypatch.setattr(queries._Spool, "read", count)
    answer = await alice.head("/v1/users/me/export", headers={"Accept-Encoding": "identity"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert (answer.content, read) == (b"", [0])
    assert await export(alice)  # the first one has ended
    assert len(read) > 10


async def test_a_user_has_one_export_at_a_time(alice: Client, charlie: Client) -> None:
    under_way = await started(alice)
    refused = await alice.get("/v1/users/me/export")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert refused.json()["type"] == "/problems/too-many-requests"
    assert await export(charlie)  # whom it does not hinder
    await under_way.aclose()
    assert await export(alice)
    assert await all_connections_idle()


async def started(member: Client) -> AsyncGenerator[bytes, None]:
    me = (await member.get("/v1/users/me")).json()["id"]
    return await queries.export_account(queries.Caller(id=UUID(me)))


async def test_slow_readers_keep_nobody_from_exporting(app: Any, alice: Client, charlie: Client) -> None:
    dora = await signed_in(app, "dora")
    under_way = [await started(alice), await started(charlie)]
    assert await export(dora)
    for pieces in under_way:
        await pieces.aclose()


async def test_the_exports_of_one_address_leave_places_to_others(
    app: Any, alice: Client, charlie: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MOST_OPEN", 4)
    token = FROM_ADDRESS.set("127.0.0.1")
    under_way = [await started(alice), await started(charlie)]
    FROM_ADDRESS.reset(token)
    dora = await signed_in(app, "dora")
    await assert_unavailable(dora)
    async with client(app, "203.0.113.7", Authorization=dora.headers["Authorization"]) as elsewhere:
        assert await export(elsewhere)
    for pieces in under_way:
        await pieces.aclose()
    assert await export(dora)


async def test_exports_wait_for_their_turn(app: Any, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async with queries._TURNS.turn(), queries._TURNS.turn():
        waiting = asyncio.create_task(export(alice))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    assert await waiting
    monkeypatch.setattr(turns, "PATIENCE", 0.05)
    async with queries._TURNS.turn(), queries._TURNS.turn():
        await assert_unavailable(alice)
    monkeypatch.setattr(queries, "MOST_OPEN", 0)
    await assert_unavailable(alice)


async def test_the_files_of_exports_have_a_budget(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_ON_DISK", Budget(1000, 1000))
    queries._ON_DISK.take("somebody else", 900)
    await assert_unavailable(alice)
    queries._ON_DISK.give_back("somebody else", 900)
    assert await export(alice)
    assert queries._ON_DISK.used == 0


async def assert_unavailable(member: Client) -> None:
    refused = await member.get("/v1/users/me/export")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.headers["content-type"] == "application/problem+json"


async def test_a_client_that_goes_away_leaves_no_connection_behind(app: Any, alice: Client) -> None:
    await fill(alice, 1000)
    for gone_after in (0, 1, 5):
        await leave_after(app, alice, gone_after)
        assert not [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "_write"]
        assert (queries._TURNS._free, queries._users, queries._ON_DISK.used) == (2, {}, 0)
        assert await all_connections_idle()
    assert len(of_kind(await export(alice), "character")) == 1000


async def test_a_client_that_takes_nothing_gives_the_export_back(
    app: Any, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slow_readers, "PATIENCE", 0.05)
    await fill(alice, 100)
    for taken in (0, 1, 3):
        await leave_after(app, alice, 10**6, takes=taken)
        assert (queries._TURNS._free, queries._users, queries._ON_DISK.used) == (2, {}, 0)
        assert await all_connections_idle()


async def leave_after(app: Any, member: Client, pieces: int, takes: int = 10**6) -> None:
    """An export of which a client reads so many pieces and then hangs up, or ``takes`` fewer and then nothing."""
    gone, requested, read = asyncio.Event(), False, -1

    async def receive() -> Any:
        nonlocal requested
        if not requested:
            requested = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal read
        read += 1
        if read == pieces:
            gone.set()
        if read >= pieces > 0 or read >= takes:
            await asyncio.sleep(60)  # it takes no more

    path = "/v1/users/me/export"
    headers = [(b"host", b"localhost"), (b"authorization", member.headers["Authorization"].encode())]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"headers": headers, "http_version": "1.1", "scheme": "http", "server": ("localhost", 80)}
    await asyncio.wait_for(app(scope | {"asgi": {"version": "3.0"}, "client": ("127.0.0.1", 1)}, receive, send), 10)


async def test_memory_does_not_grow_with_the_number_of_rows(app: Any, alice: Client) -> None:
    me = (await alice.get("/v1/users/me")).json()["id"]
    peaks = []
    for more in (500, 4500):
        await fill(alice, more)
        gc.collect()
        tracemalloc.start()
        size = 0
        async for piece in await queries.export_account(queries.Caller(id=me)):
            size += len(piece)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert size > 5_000_000
    assert peaks[1] < peaks[0] + 200_000


async def test_an_export_that_is_read_too_slowly_ends(alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "MAX_SECONDS", 0)
    me = (await alice.get("/v1/users/me")).json()["id"]
    pieces = await queries.export_account(queries.Caller(id=me))
    with pytest.raises(Unavailable):
        await anext(pieces)
    assert await all_connections_idle()


@pytest.mark.slow
def test_an_export_of_twenty_thousand_characters_does_not_grow_the_process() -> None:
    with service_of_its_own() as service, member_of(service.start()) as client:
        owner = client.get("/v1/users/me").json()["id"]
        dsn = embedded.dsn(service.data_dir)
        asyncio.run(execute(dsn, characters_of(owner, 1_000)))
        assert count_lines(client) == 1_003  # with the profile, the session and its audit entry
        before = peak_memory(service)
        asyncio.run(execute(dsn, characters_of(owner, 19_000)))
        assert count_lines(client) == 20_003
        assert peak_memory(service) - before < 5_000_000

        with client.stream("GET", "/v1/users/me/export") as answer:
            next(answer.iter_raw())
        wait_until(lambda: busy_connections(client) == 0, "the connection did not come back", patience=5)


@contextmanager
def member_of(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        account = {"email": "ada@example.org", "username": "ada", "password": PASSWORD}
        assert client.post("/v1/users", json=account).status_code == 201
        session = client.post("/v1/sessions", json={"login": "ada", "password": PASSWORD}).json()
        client.headers["Authorization"] = f"Bearer {session['token']}"
        yield client


def count_lines(client: httpx.Client) -> int:
    with client.stream("GET", "/v1/users/me/export") as answer:
        return sum(1 for _ in answer.iter_lines())


def peak_memory(service: Service) -> int:
    """In bytes."""
    assert service.process is not None
    (line,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{service.process.pid}/status").read_text())
    return int(line) * 1024


def busy_connections(client: httpx.Client) -> int:
    metrics = dict(re.findall(r'database_connections{state="(\w+)"} (\d+)', client.get("/metrics").text))
    return int(metrics["open"]) - int(metrics["idle"])
