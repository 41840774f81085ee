"""Idempotency-Key: what is sent again is answered again, not done again."""

import asyncio
import json
import signal
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from litestar import Litestar, post
from litestar.di import Provide
from litestar.middleware import DefineMiddleware
from litestar.params import JSONBody

from service.auth.token_cache import identify
from service.characters.queries import create_character
from service.characters.schemas import CharacterCreate
from service.characters.tables import Character
from service.commands.purge import purge_everything
from service.database import embedded
from service.database.engine import DB
from service.errors import Forbidden
from service.idempotency.queries import Attempt
from service.idempotency.tables import IdempotencyKey
from service.limits.rate_limits import TOKEN_LOOK_UPS
from service.web.guards import CurrentUser, current_user
from service.web.middleware.authentication import Authentication
from service.web.middleware.request_id import RequestId
from service.web.middleware.uploads import SMALL
from service.web.middleware.writes import BodyDigest, Writes
from service.web.problems import answer_problem
from tests.conftest import DATA_DIR, FIGHTER, PASSWORD, character, client, faults, template, with_key
from tests.support.routes import route_of, routes_with
from tests.support.servers import Service, execute, service_of_its_own

Client = httpx.AsyncClient

KEY = {"Idempotency-Key": "a-key"}
MIRA = {"name": "Mira"}


async def _rows() -> tuple[int, int]:
    """How many characters and keys there are."""
    return await Character.count(), await IdempotencyKey.count()


async def test_a_repeated_request_gets_the_stored_response(alice: Client) -> None:
    first = await alice.post("/v1/characters", json=MIRA, headers=KEY)
    again = await alice.post("/v1/characters", json=MIRA, headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    for name in ("location", "etag", "content-type", "cache-control"):
        assert again.headers[name] == first.headers[name]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert await _rows() == (1, 1)


async def test_every_route_that_takes_a_key(alice: Client) -> None:
    fighters, mira, otto = await template(alice), await character(alice), await character(alice)
    posts = {
        "/v1/characters": MIRA,
        "/v1/characters/bulk": {"operations": [{"action": "create", "body": MIRA}]},
        f"/v1/characters/{mira['id']}/copies": {},
        f"/v1/characters/{mira['id']}/relationships": {"target": otto["id"], "type": "friend_of"},
        "/v1/templates": {"name": "New", "attribute_schema": FIGHTER},
        f"/v1/templates/{fighters['id']}/copies": {},
        f"/v1/templates/{fighters['id']}/versions": {"attribute_schema": FIGHTER},
    }
    tried_in_test_imports = {"POST /v1/imports"}
    assert {route_of("POST", path) for path in posts} | tried_in_test_imports == routes_with("key")
    for path, body in posts.items():
        first = await alice.post(path, json=body, headers=KEY)
        again = await alice.post(path, json=body, headers=KEY)
        assert first.is_success, (path, first.text)
        assert (again.status_code, again.content) == (first.status_code, first.content), path
        assert (again.headers.get("location"), again.headers["idempotency-replayed"]) == (
            first.headers.get("location"),
            "true",
        )
    assert await IdempotencyKey.count() == len(posts)


async def test_the_stored_response_is_replayed_after_later_changes(alice: Client) -> None:
    first = await alice.post("/v1/characters", json=MIRA, headers=KEY)
    await alice.delete(first.headers["location"])
    assert (await alice.post("/v1/characters", json=MIRA, headers=KEY)).content == first.content


async def test_a_key_is_scoped_to_member_path_and_query(alice: Client, charlie: Client) -> None:
    mira = await character(alice, visibility="public")
    path = f"/v1/characters/{mira['id']}/copies"
    answers = [
        await alice.post(path, json={}, headers=KEY),
        await charlie.post(path, json={}, headers=KEY),
        await alice.post(f"{path}?dry_run=false", json={}, headers=KEY),
        await alice.post("/v1/characters", json=MIRA, headers=KEY),
        await alice.post(path, json={}, headers={"Idempotency-Key": "another"}),
    ]
    assert [answer.status_code for answer in answers] == [201] * 5
    assert len({answer.json()["id"] for answer in answers}) == 5


async def test_a_key_with_another_body_is_refused(alice: Client) -> None:
    await alice.post("/v1/characters", json=MIRA, headers=KEY)
    refused = await alice.post("/v1/characters", json={"name": "Otto"}, headers=KEY)
    assert (refused.status_code, faults(refused)) == (422, {"Idempotency-Key": "Was used with another body."})
    assert await _rows() == (1, 1)


async def test_a_failure_is_not_stored(alice: Client) -> None:
    refused = await alice.post("/v1/characters", json={"name": ""}, headers=KEY)
    assert refused.status_code == 422
    assert (await alice.post("/v1/characters", json=MIRA, headers=KEY)).status_code == 201
    assert await _rows() == (1, 1)


async def test_the_writes_of_a_failed_handler_are_rolled_back(alice: Client) -> None:
    @post("/v1/failing", idempotent=True)
    async def write_and_fail(user: CurrentUser, data: JSONBody[CharacterCreate]) -> None:
        await create_character(user, data)
        raise Forbidden

    failing = Litestar(
        [write_and_fail],
        dependencies={"user": Provide(current_user)},
        exception_handlers={Exception: answer_problem},
        middleware=[
            DefineMiddleware(Authentication, identify=identify, look_ups=TOKEN_LOOK_UPS),
            DefineMiddleware(Writes, begin_attempt=Attempt.of),
        ],
        logging_config=None,
        openapi_config=None,
    )
    async with client(RequestId(failing), Authorization=alice.headers["authorization"]) as member:
        assert (await member.post("/v1/failing", json=MIRA, headers=KEY)).status_code == 403
    assert await _rows() == (0, 0)


async def test_a_dry_run_is_not_stored(alice: Client) -> None:
    for _ in range(2):
        dry = await alice.post("/v1/characters?dry_run=true", json=MIRA, headers=KEY)
        assert (dry.status_code, "idempotency-replayed" in dry.headers) == (200, False)
    assert await _rows() == (0, 0)


async def test_a_caller_without_write_access_learns_nothing_about_a_key(
    app: Any, alice: Client, stranger: Client
) -> None:
    await alice.post("/v1/characters", json=MIRA, headers=KEY)
    reader = await with_key(app, alice, "characters:read")
    assert (await reader.post("/v1/characters", json=MIRA, headers=KEY)).status_code == 403
    assert (await stranger.post("/v1/characters", json=MIRA, headers=KEY)).status_code == 401


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "naïve", "tab\tbed"])
async def test_a_malformed_key_is_refused(alice: Client, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    refused = await alice.post("/v1/characters", json=MIRA, headers=headers)
    assert (refused.status_code, faults(refused)) == (
        400,
        {"Idempotency-Key": "Must be 1 to 255 visible ASCII characters."},
    )


async def test_two_keys_are_refused(alice: Client) -> None:
    headers = [*alice.headers.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    refused = await alice.post("/v1/characters", json=MIRA, headers=headers)
    assert (refused.status_code, faults(refused)) == (400, {"Idempotency-Key": "Must be given only once."})


async def test_the_digest_of_a_large_body_is_computed_in_a_thread(
    alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[Any] = []

    def note(self: BodyDigest, piece: bytes) -> None:
        threads.append(threading.current_thread())
        update(self, piece)

    update = BodyDigest.update
    monkeypatch.setattr(BodyDigest, "update", note)
    for text in ("x", "x" * SMALL):
        body = {"name": "Mira", "extensions": {"notes": text}}
        assert (await alice.post("/v1/characters", json=body, headers={"Idempotency-Key": text[:2]})).is_success
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


@pytest.mark.parametrize("length", [1, 40, 70])
@pytest.mark.parametrize("step", [1, 16, 10_000])
def test_a_digest_leaves_out_the_boundary_of_a_form(length: int, step: int) -> None:
    def form(boundary: str, *files: str) -> bytes:
        return digest("".join(f"--{boundary}\r\n\r\n{file}\r\n" for file in files), f"--{boundary}", step)

    files = [f"{'x' * size}{size}" for size in range(40)]
    assert form("a" * length, *files) == form("b" * length, *files) == form("c" * length, *files)
    assert form("a" * length, *files) != form("a" * length, *files[::-1])
    assert digest("--a--a", "", step) != digest("--b--b", "", step)


def digest(body: str, delimiter: str, step: int) -> bytes:
    """Of a body that arrives in pieces of ``step`` bytes."""
    whole = BodyDigest(delimiter.encode())
    for start in range(0, len(body), step):
        whole.update(body[start : start + step].encode())
    return whole.digest()


@pytest.mark.parametrize("size", [1, 300_000, 3_000_000])
async def test_a_file_is_recognised_whatever_its_size(alice: Client, size: int) -> None:
    """A large one is read from disk twice: once to recognise it."""

    card = json.dumps({"spec": "chara_card_v2", "spec_version": "2.0", "data": {"name": "Mira"}}).encode()

    def form(last: bytes) -> dict[str, Any]:
        return {"file": ("mira.json", card + b" " * size + last, "application/json")}

    first, again = [await alice.post("/v1/imports", files=form(b" "), headers=KEY) for _ in range(2)]
    assert (first.status_code, first.json()["items"][0]["status"]) == (200, 201)
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    other = await alice.post("/v1/imports", files=form(b"\n"), headers=KEY)
    assert (other.status_code, list(faults(other))) == (422, ["Idempotency-Key"])


async def test_the_longest_key_is_accepted(alice: Client) -> None:
    key = {"Idempotency-Key": "!" + "~" * 254}
    assert (await alice.post("/v1/characters", json=MIRA, headers=key)).status_code == 201


async def test_a_key_is_refused_by_routes_without_idempotency(alice: Client) -> None:
    mira = await character(alice)
    for method, path in [
        ("GET", "/v1/characters"),
        ("PATCH", f"/v1/characters/{mira['id']}"),
        ("DELETE", f"/v1/characters/{mira['id']}"),
        ("POST", "/v1/sessions"),
        ("POST", "/v1/api-keys"),
        ("POST", f"/v1/trash/{mira['id']}/restorations"),
    ]:
        refused = await alice.request(method, path, headers=KEY, json=None if method == "GET" else {})
        assert (refused.status_code, faults(refused)) == (
            400,
            {"Idempotency-Key": "Is not supported by this operation."},
        ), path


async def test_a_key_expires_after_24_hours(alice: Client) -> None:
    first = await alice.post("/v1/characters", json=MIRA, headers=KEY)
    await _age_keys("23 hours 59 minutes")
    assert (await alice.post("/v1/characters", json=MIRA, headers=KEY)).json() == first.json()
    await _age_keys("1 minute")
    later = await alice.post("/v1/characters", json={"name": "Otto"}, headers=KEY)
    assert later.json()["name"] == "Otto"
    again = await alice.post("/v1/characters", json={"name": "Otto"}, headers=KEY)
    assert (again.json(), again.headers["idempotency-replayed"]) == (later.json(), "true")
    assert await _rows() == (2, 1)


async def test_purge_deletes_expired_keys_only(alice: Client) -> None:
    await alice.post("/v1/characters", json=MIRA, headers=KEY)
    await _age_keys("25 hours")
    await alice.post("/v1/characters", json=MIRA, headers={"Idempotency-Key": "young"})
    assert (await purge_everything())["idempotency keys"] == 1
    assert await _rows() == (2, 1)


async def _age_keys(by: str) -> None:
    await DB.run_ddl(f"UPDATE idempotency_keys SET created_at = created_at - interval '{by}'")


# At the same time


async def test_concurrent_identical_requests_are_done_once(alice: Client) -> None:
    answers = await asyncio.gather(*[alice.post("/v1/characters", json=MIRA, headers=KEY) for _ in range(8)])
    _check_done_once(answers)
    assert await _rows() == (1, 1)


def _check_done_once(answers: list[httpx.Response]) -> None:
    made = [answer for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len([answer for answer in made if "idempotency-replayed" not in answer.headers]) == 1
    assert len({answer.content for answer in made}) == 1


async def test_a_request_in_flight_is_reported(alice: Client) -> None:
    database = await asyncpg.connect(embedded.dsn(DATA_DIR))
    try:
        await database.execute("BEGIN; LOCK TABLE characters IN ACCESS EXCLUSIVE MODE")
        first = asyncio.create_task(alice.post("/v1/characters", json=MIRA, headers=KEY))
        await _until_one_waits(database)
        second = await alice.post("/v1/characters", json=MIRA, headers=KEY)
        assert (second.status_code, second.json()["type"]) == (409, "/problems/conflict")
        assert list(faults(second)) == ["Idempotency-Key"]
        await database.execute("COMMIT")
        assert (await first).status_code == 201
    finally:
        await database.close()
    assert (await alice.post("/v1/characters", json=MIRA, headers=KEY)).json() == (await first).json()


async def _until_one_waits(database: asyncpg.Connection) -> None:
    async with asyncio.timeout(10):
        while not await database.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            await asyncio.sleep(0.02)


async def test_a_failed_commit_is_reported_and_stores_nothing(alice: Client) -> None:
    await execute(
        embedded.dsn(DATA_DIR),
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'serialization_failure'; END $$;
        CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON characters DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION refuse();
        """,
    )
    try:
        failed = await alice.post("/v1/characters", json=MIRA, headers=KEY)
    finally:
        await execute(embedded.dsn(DATA_DIR), "DROP FUNCTION refuse CASCADE")
    assert (failed.status_code, failed.json()["type"]) == (503, "/problems/unavailable")
    assert await _rows() == (0, 0)
    assert (await alice.post("/v1/characters", json=MIRA, headers=KEY)).status_code == 201


# As processes


@pytest.fixture(scope="module")
def two_workers(fresh_database: str) -> Iterator[tuple[Service, Service]]:
    """Two processes on one database."""
    with (
        service_of_its_own(DATABASE_URL=fresh_database) as first,
        service_of_its_own(DATABASE_URL=fresh_database) as second,
    ):
        yield first.start(), second.start()


@pytest.mark.slow
async def test_identical_requests_to_two_workers_are_done_once(two_workers: tuple[Service, Service]) -> None:
    first, second = two_workers
    headers = _signed_in(first, "worker")
    async with (
        httpx.AsyncClient(base_url=first.url, headers=headers, timeout=20) as one,
        httpx.AsyncClient(base_url=second.url, headers=headers, timeout=20) as other,
    ):
        for _ in range(20):
            key = {"Idempotency-Key": str(uuid4())}
            sent = [worker.post("/v1/characters", json=MIRA, headers=key) for worker in (one, other) * 2]
            _check_done_once(await asyncio.gather(*sent))
    assert await _works_and_keys(first) == (20, 20)


@pytest.mark.slow
def test_a_change_and_its_key_survive_kill_9_together(two_workers: tuple[Service, Service]) -> None:
    service, _ = two_workers
    headers = _signed_in(service, "killed")
    before = asyncio.run(_works_and_keys(service))
    sent = asyncio.run(_write_until_it_is_killed(service, headers))
    works, keys = asyncio.run(_works_and_keys(service))
    assert works == keys > before[0] + 40
    service.start()
    with service.client(**headers) as writer:
        for key in sent:
            answer = writer.post("/v1/characters", json={"name": key}, headers={"Idempotency-Key": key})
            assert answer.status_code == 201
    assert asyncio.run(_works_and_keys(service)) == (before[0] + len(sent), before[1] + len(sent))


def _signed_in(service: Service, username: str) -> dict[str, str]:
    with service.client() as stranger:
        account = {"email": f"{username}@example.org", "username": username, "password": PASSWORD}
        assert stranger.post("/v1/users", json=account).status_code == 201
        session = stranger.post("/v1/sessions", json={"login": username, "password": PASSWORD})
        return {"Authorization": f"Bearer {session.json()['token']}"}


async def _works_and_keys(service: Service) -> tuple[int, int]:
    """How many characters members have made, and how many keys there are."""
    database = await asyncpg.connect(service.environment["DATABASE_URL"])
    try:
        works = """SELECT count(*) FROM characters JOIN users ON users.id = owner
            WHERE username IN ('worker', 'killed')"""
        return await database.fetchval(works), await database.fetchval("SELECT count(*) FROM idempotency_keys")
    finally:
        await database.close()


async def _write_until_it_is_killed(service: Service, headers: dict[str, str]) -> list[str]:
    """The keys that were sent, each at most once."""
    sent: list[str] = []
    answered = 0

    async def write() -> None:
        nonlocal answered
        async with httpx.AsyncClient(base_url=service.url, headers=headers) as writer:
            while True:
                sent.append(key := str(uuid4()))
                answer = await writer.post("/v1/characters", json={"name": key}, headers={"Idempotency-Key": key})
                assert answer.status_code == 201, answer.text
                answered += 1

    writers = [asyncio.create_task(write()) for _ in range(4)]
    async with asyncio.timeout(20):
        while answered < 60:
            await asyncio.sleep(0.005)
    service.stop(signal.SIGKILL)
    ends = await asyncio.gather(*writers, return_exceptions=True)
    assert all(isinstance(end, httpx.TransportError) for end in ends), ends
    return sent


async def test_an_answer_that_is_too_large_to_keep_is_refused_and_nothing_is_done(alice: Client) -> None:
    large = {"name": "Mira", "extensions": {"notes": "n" * 250_000}}
    made = [await character(alice, **large) for _ in range(5)]

    async def rename(number: int) -> httpx.Response:
        operations = [{"action": "update", "id": each["id"], "body": {"name": "New"}} for each in made[:number]]
        return await alice.post("/v1/characters/bulk", json={"operations": operations}, headers=KEY)

    answer = await rename(5)
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
    assert "larger than 1 MiB" in answer.json()["detail"]
    assert await Character.count().where(Character.name == "New") == 0
    assert await IdempotencyKey.count() == 0
    done = await rename(4)
    assert (done.status_code, await Character.count().where(Character.name == "New")) == (200, 4)
    again = await rename(4)
    assert (again.content, again.headers["idempotency-replayed"]) == (done.content, "true")


async def test_without_a_key_an_answer_may_be_larger(alice: Client) -> None:
    made = [await character(alice, extensions={"notes": "n" * 250_000}) for _ in range(5)]
    operations = [{"action": "update", "id": each["id"], "body": {"name": "New"}} for each in made]
    assert (await alice.post("/v1/characters/bulk", json={"operations": operations})).status_code == 200
