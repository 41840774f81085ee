"""Guessing passwords slows down, and nobody can shut somebody else out by it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from service.limits import backoff
from service.limits.backoff import Attempts
from service.settings import settings
from tests.conftest import PASSWORD

Client = httpx.AsyncClient

HOME, CAFE, ELSEWHERE = "192.0.2.1", "192.0.2.2", "198.51.100.7"


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time, and limits that are soon reached: 3 failures of an address and account, 6 of an account, 8 of an
    address."""
    clock = Clock()
    monkeypatch.setattr("service.limits.backoff.time", clock)
    monkeypatch.setattr("service.limits.backoff.settings", SimpleNamespace(rate_limit_factor=1))
    monkeypatch.setattr("service.limits.backoff._by_pair", Attempts(free=3, longest=300))
    monkeypatch.setattr("service.limits.backoff._by_account", Attempts(free=6, longest=60))
    monkeypatch.setattr("service.limits.backoff._by_address", Attempts(free=8, longest=60))
    monkeypatch.setattr("service.limits.backoff._confirmations", Attempts(free=4, longest=300))
    return clock


async def sign_in(app: Any, address: str, password: str = "a wrong password", login: str = "alice") -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.post("/v1/sessions", json={"login": login, "password": password})


async def fail(app: Any, address: str, times: int, login: str = "alice") -> None:
    for _ in range(times):
        assert (await sign_in(app, address, login=login)).status_code == 401


def told(answer: httpx.Response) -> tuple[int, str, str | None]:
    return answer.status_code, answer.json()["detail"], answer.headers.get("Retry-After")


@pytest.mark.parametrize("login", ["alice", "alice@example.org", "nobody"])
async def test_each_failure_doubles_the_wait_whether_the_account_exists_or_not(
    app: Any, alice: Client, clock: Clock, login: str
) -> None:
    all_counted = [
        (backoff._by_pair, "account and network"),
        (backoff._by_address, "network"),
        (backoff._by_account, "account"),
    ]
    limits = ", ".join(f"{attempts._free} for each {counts}" for attempts, counts in all_counted)
    await fail(app, CAFE, 3, login)
    for seconds in (1, 2, 4):
        refused = await sign_in(app, CAFE, PASSWORD, login)
        counted = f"The limits are {limits}. An hour without a failure ends the count."
        waiting = f"Too many failed sign-ins. {counted} Retry in {seconds} second{'s' * (seconds > 1)}."
        assert told(refused) == (429, waiting, str(seconds)), "also with the right password"
        clock.now += seconds
        await fail(app, CAFE, 1, login)


async def test_five_failures_are_free(app: Any, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff._by_pair, "_free", backoff._by_pair._free // 10_000)  # not at the scale of the tests
    await fail(app, CAFE, 5)
    assert told(await sign_in(app, CAFE, PASSWORD))[::2] == (429, "1")


@pytest.mark.parametrize(
    ("attempts", "free", "longest"),
    [
        (backoff._by_pair, 5, 300),
        (backoff._by_address, 100, 60),
        (backoff._by_account, 50, 60),
        (backoff._confirmations, 5, 300),
    ],
)
def test_free_failures_and_the_longest_wait(attempts: Attempts, free: int, longest: float) -> None:
    assert (attempts._free / settings.rate_limit_factor, attempts._longest) == (free, longest)


async def test_a_sign_in_after_the_wait_succeeds_and_resets_the_failures(app: Any, alice: Client, clock: Clock) -> None:
    await fail(app, CAFE, 3)
    assert (await sign_in(app, CAFE, PASSWORD)).status_code == 429
    clock.now += 1
    assert (await sign_in(app, CAFE, PASSWORD)).status_code == 201
    await fail(app, CAFE, 3)


async def test_failures_of_one_address_do_not_delay_another(
    app: Any, alice: Client, charlie: Client, clock: Clock
) -> None:
    await fail(app, CAFE, 3)
    assert (await sign_in(app, CAFE, PASSWORD)).status_code == 429
    assert (await sign_in(app, HOME, PASSWORD)).status_code == 201
    assert (await sign_in(app, CAFE, PASSWORD, "charlie")).status_code == 201


@pytest.mark.parametrize("login", ["alice", "nobody"])
async def test_failures_of_many_addresses_delay_new_addresses_only(
    app: Any, alice: Client, clock: Clock, login: str
) -> None:
    assert (await sign_in(app, HOME, PASSWORD)).status_code == 201
    for number in range(6):
        await fail(app, f"203.0.113.{number}", 1, login)
    assert (await sign_in(app, ELSEWHERE, PASSWORD, login)).status_code == 429
    if login == "alice":
        assert (await sign_in(app, HOME, PASSWORD)).status_code == 201
    clock.now += 60
    assert (await sign_in(app, ELSEWHERE, PASSWORD)).status_code == 201


async def test_one_address_that_tries_many_accounts_has_to_wait(
    app: Any, alice: Client, charlie: Client, clock: Clock
) -> None:
    for number in range(8):
        await fail(app, CAFE, 1, f"member-{number}")
    assert (await sign_in(app, CAFE, PASSWORD)).status_code == 429
    assert (await sign_in(app, HOME, PASSWORD)).status_code == 201


async def test_concurrent_attempts_are_all_counted(app: Any, alice: Client, clock: Clock) -> None:
    answers = await asyncio.gather(*(sign_in(app, CAFE) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [401] * 3 + [429] * 9


async def test_an_ipv6_network_counts_as_one_address(app: Any, alice: Client, clock: Clock) -> None:
    for number in range(3):
        await fail(app, f"2001:db8::{number}", 1)
    assert (await sign_in(app, "2001:db8::ffff", PASSWORD)).status_code == 429
    assert (await sign_in(app, "2001:db8:0:1::1", PASSWORD)).status_code == 201


async def test_password_attempts_within_a_session_are_limited_too(alice: Client, clock: Clock) -> None:
    change = {"email": "eve@example.org", "current_password": "a wrong password"}
    ways = [
        ("PATCH", "/v1/users/me", change),
        ("PUT", "/v1/users/me/password", {"current_password": "a wrong one", "new_password": "something quite new"}),
        ("DELETE", "/v1/users/me", {"password": "a wrong password"}),
        ("POST", "/v1/api-keys", {"name": "a", "scopes": ["characters:read"], "current_password": "a wrong one"}),
    ]
    for method, path, body in ways:
        assert (await alice.request(method, path, json=body)).status_code == 403
    for method, path, body in ways:
        refused = await alice.request(method, path, json=body)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
    clock.now += 1
    assert (await alice.patch("/v1/users/me", json=change | {"current_password": PASSWORD})).status_code == 200
    assert (await alice.patch("/v1/users/me", json=change)).status_code == 403


async def test_a_session_shows_its_address(app: Any, alice: Client) -> None:
    assert (await sign_in(app, HOME, PASSWORD)).status_code == 201
    sessions = (await alice.get("/v1/sessions")).json()["items"]
    assert [session["address"] for session in sessions] == [HOME, "127.0.0.1"]


def test_a_wait_ends_and_failures_are_forgotten(clock: Clock) -> None:
    attempts = Attempts(free=2, longest=300)
    for _ in range(100):
        attempts.begin("a")
    assert (attempts.wait("a"), attempts.wait("b")) == (300, 0)
    clock.now += 3601
    attempts.begin("a")
    assert attempts.wait("a") == 0


def test_the_number_of_remembered_failures_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.limits.backoff._MOST_KEYS", 10)
    attempts = Attempts(free=1, longest=300)
    for number in range(50):
        attempts.begin(str(number))
    assert len(attempts._failed) == 10
    assert (attempts.wait("39"), attempts.wait("40")) == (0, 1)
