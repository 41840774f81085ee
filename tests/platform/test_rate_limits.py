"""Rate limits, in a service of its own where they are tight: 180 reads a minute, 36 writes, one sign-in.

It believes X-Forwarded-For from 127.0.0.1, so that each test speaks from an address of its own.
"""

import re
import time
from collections.abc import Iterator
from itertools import count

import httpx
import pytest

from service.auth.secrets import new_token
from service.limits import rate_limits
from service.limits.counters import LocalCounter
from service.web.middleware.rate_limit import RateLimit
from tests.conftest import PASSWORD
from tests.support.routes import HANDLERS
from tests.support.servers import Service, piccolo, service_of_its_own

READS, WRITES, LOOK_UPS, SIGN_INS, SIGN_UPS = 180, 36, 36, 1, 1  # of an address, at the scale below, in development
HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")

addresses = (f"198.51.100.{number}" for number in count(1))


@pytest.fixture(scope="module")
def service(fresh_database: str) -> Iterator[Service]:
    assert piccolo("migrations", "forwards", DATABASE_URL=fresh_database).returncode == 0
    with service_of_its_own(
        DATABASE_URL=fresh_database, RATE_LIMIT_SCALE="0.003", TRUSTED_PROXIES="127.0.0.1"
    ) as service:
        yield service.start()


@pytest.fixture
def stranger(service: Service) -> Iterator[httpx.Client]:
    with service.client(**{"X-Forwarded-For": next(addresses)}) as client:
        yield client


def sign_in(client: httpx.Client, **headers: str) -> httpx.Response:
    return client.post("/v1/sessions", json={"login": "nobody", "password": PASSWORD}, headers=headers)


def invented() -> dict[str, str]:
    """A token that only a look-up can refuse."""
    return {"Authorization": f"Bearer {new_token('session')}"}


def numbers(answer: httpx.Response) -> list[int]:
    return [int(answer.headers[name]) for name in HEADERS]


def assert_refused(answer: httpx.Response, most: int, seconds: int, name: str) -> None:
    assert answer.status_code == 429
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["type"], problem["status"], problem["instance"]) == (
        "/problems/too-many-requests",
        429,
        answer.request.url.path,
    )
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    limit, remaining, reset = numbers(answer)
    assert (limit, remaining) == (most, 0)
    assert 0 < reset <= seconds
    assert answer.headers["Retry-After"] == str(reset)
    window = {60: "a minute", 3_600: "an hour"}[seconds]
    assert re.fullmatch(
        f"The limit '{name}' is {most} in {window} for each (caller|address). Retry in {reset} seconds?.",
        problem["detail"],
    )


def test_signing_in_is_limited_for_each_address(stranger: httpx.Client) -> None:
    first = sign_in(stranger)
    assert first.status_code == 401
    assert numbers(first)[:2] == [SIGN_INS, 0]
    assert_refused(sign_in(stranger), SIGN_INS, 60, "sign-in")
    assert sign_in(stranger, **{"X-Forwarded-For": next(addresses)}).status_code == 401


def test_a_network_of_ipv6_is_one_address(stranger: httpx.Client) -> None:
    for address, status in (("2001:db8::1", 401), ("2001:db8::2", 429), ("2001:db8:0:1::1", 401)):
        assert sign_in(stranger, **{"X-Forwarded-For": address}).status_code == status


def test_an_ipv4_address_written_as_ipv6_is_one_address(stranger: httpx.Client) -> None:
    for address, status in (("::ffff:198.51.100.50", 401), ("::ffff:198.51.100.51", 401), ("198.51.100.50", 429)):
        assert sign_in(stranger, **{"X-Forwarded-For": address}).status_code == status


def test_signing_up_is_limited_for_each_address(stranger: httpx.Client) -> None:
    good = {"email": "first@example.org", "username": "first", "password": PASSWORD}
    for refused in ({"email": "none"}, {"email": "a\u200b@x.org"}, {"password": "password1234"}, {"username": "admin"}):
        answer = stranger.post("/v1/users", json=good | refused)
        assert answer.status_code == 422, "no account was made, so it does not count"
        assert numbers(answer)[0] == WRITES
    for name, status in (("first", 201), ("second", 429)):
        account = {"email": f"{name}@example.org", "username": name, "password": PASSWORD}
        answer = stranger.post("/v1/users", json=account)
        assert answer.status_code == status
    assert_refused(answer, SIGN_UPS, 3600, "sign-up")


def test_a_new_email_is_limited_as_sign_ups_and_mail_are(service: Service, stranger: httpx.Client) -> None:
    """It sends a message to any address, and tells whether one is taken: one of each an hour, at this scale."""
    account = {"email": "alice@example.org", "username": "alice", "password": PASSWORD}
    assert stranger.post("/v1/users", json=account).status_code == 201
    session = stranger.post("/v1/sessions", json={"login": "alice", "password": PASSWORD}).json()
    headers = {"Authorization": f"Bearer {session['token']}"}

    def change(email: str, address: str, token: dict[str, str] = headers) -> int:
        body = {"email": email, "current_password": PASSWORD}
        answer = stranger.patch("/v1/users/me", json=body, headers=token | {"X-Forwarded-For": address})
        return answer.status_code

    first, second, third = next(addresses), next(addresses), next(addresses)
    assert change("new@example.org", first) == 200
    assert change("alice@example.org", first) == 429
    assert change("alice@example.org", second) == 429, "the account counts, too"
    reset = stranger.post("/v1/password-resets", json={"email": "a@example.org"}, headers={"X-Forwarded-For": first})
    assert reset.status_code == 429, "the count of messages is shared"
    profile = stranger.patch("/v1/users/me", json={"bio": "Paints."}, headers=headers | {"X-Forwarded-For": first})
    assert profile.status_code == 200
    account = {"email": "bob@example.org", "username": "bob", "password": PASSWORD}
    for other in (third, first):
        answer = stranger.post("/v1/users", json=account, headers={"X-Forwarded-For": other})
        assert answer.status_code == (201 if other == third else 429), "and that of sign-ups"
    bob = stranger.post(
        "/v1/sessions", json={"login": "bob", "password": PASSWORD}, headers={"X-Forwarded-For": third}
    ).json()
    token = {"Authorization": f"Bearer {bob['token']}"}
    assert {change(email, third, token) for email in ("new@example.org", "free@example.org")} == {429}


def test_limits_do_not_share_a_count(stranger: httpx.Client) -> None:
    sign_in(stranger)
    assert sign_in(stranger).status_code == 429
    reading = stranger.get("/v1/characters")
    assert reading.status_code == 200
    assert numbers(reading)[:2] == [READS, READS - 1], "the sign-ins were no reads"
    writing = stranger.post("/v1/characters", json={})
    assert writing.status_code == 401
    assert numbers(writing)[:2] == [WRITES, WRITES - 3]
    account = {"email": "not an address", "username": "", "password": ""}
    assert stranger.post("/v1/users", json=account).status_code == 422, "nor were they sign-ups"


def test_users_behind_one_address_do_not_share_a_count(service: Service, stranger: httpx.Client) -> None:
    sharing = stranger.headers["X-Forwarded-For"]
    for name in ("one", "two"):
        stranger.headers["X-Forwarded-For"] = next(addresses)
        account = {"email": f"{name}@example.org", "username": name, "password": PASSWORD}
        assert stranger.post("/v1/users", json=account).status_code == 201
        token = stranger.post("/v1/sessions", json={"login": name, "password": PASSWORD}).json()["token"]
        answer = stranger.get("/v1/users/me", headers={"Authorization": f"Bearer {token}", "X-Forwarded-For": sharing})
        assert numbers(answer)[:2] == [READS, READS - 1]


@pytest.mark.parametrize(
    ("method", "path", "status", "most"),
    [
        ("GET", "/v1/characters", 200, READS),
        ("HEAD", "/v1/characters", 200, READS),
        ("GET", "/v1/characters?limit=none", 400, READS),
        ("GET", "/v1/nowhere", 404, READS),
        ("OPTIONS", "/v1/characters", 204, READS),
        ("OPTIONS", "/v1/nowhere", 404, READS),
        ("GET", "/v1/users/nobody-there", 404, READS),
        ("GET", "/v1/users/me", 401, READS),
        ("PUT", "/v1/characters", 405, WRITES),
        ("POST", "/v1/characters", 401, WRITES),
        ("PATCH", "/v1/users/me", 401, WRITES),
        ("DELETE", "/v1/sessions/current", 401, WRITES),
        ("POST", "/v1/users", 400, WRITES),
    ],
)
def test_every_answer_below_v1_has_rate_limit_headers(
    stranger: httpx.Client, method: str, path: str, status: int, most: int
) -> None:
    answer = stranger.request(method, path)
    assert answer.status_code == status
    limit, remaining, reset = numbers(answer)
    assert limit == most
    assert 0 <= remaining < most
    assert 0 < reset <= 3600


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/admin/", 200),
        ("/admin/public/nowhere", 404),
        ("/media/none", 404),
        ("/docs", 200),
        ("/docs-assets/none", 404),
        ("/openapi.json", 200),
    ],
)
def test_the_admin_site_and_files_are_limited(stranger: httpx.Client, path: str, status: int) -> None:
    first, second = stranger.get(path), stranger.get(path)
    assert (first.status_code, second.status_code) == (status, status)
    assert [numbers(answer)[:2] for answer in (first, second)] == [[READS, READS - 1], [READS, READS - 2]]


@pytest.mark.parametrize("path", ["/health/live", "/problems/"])
def test_nothing_else_is_limited(stranger: httpx.Client, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 200
    assert not any(name in answer.headers for name in HEADERS)


@pytest.mark.parametrize("path", ["//v1/characters", "/v1//characters", "/v1/characters/", "/%76%31/characters"])
def test_no_spelling_of_a_path_avoids_a_limit(service: Service, stranger: httpx.Client, path: str) -> None:
    assert numbers(stranger.get("/v1/characters"))[1] == READS - 1
    answer = stranger.get(httpx.URL(f"{service.url}{path}"))
    assert answer.status_code == 200
    assert numbers(answer)[1] == READS - 2


def test_reads_are_refused_past_the_limit_and_writes_are_not(stranger: httpx.Client) -> None:
    left = [numbers(stranger.get("/v1/characters"))[1] for _ in range(READS)]
    assert left == list(range(READS - 1, -1, -1))
    assert_refused(stranger.get("/v1/characters"), READS, 60, "reads")
    assert stranger.post("/v1/characters", json={}).status_code == 401


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND"])
def test_unknown_methods_are_refused_and_limited_on_every_path(stranger: httpx.Client, method: str) -> None:
    paths = ("/docs", "/docs-assets/none.js", "/health/live", "/metrics", "/admin/", "/admin", "/v1/characters", "/")
    for number, path in enumerate(paths, 1):
        answer = stranger.request(method, path)
        assert (answer.status_code, numbers(answer)[:2]) == (405, [WRITES, WRITES - number]), path
        assert method not in answer.headers["Allow"]
        assert "OPTIONS" in answer.headers["Allow"]
    for path in ("/nowhere", "/v1/nowhere"):
        assert stranger.request(method, path).status_code == 404
    for _ in range(WRITES - len(paths) - 2):
        stranger.request(method, "/docs")
    for path in ({*paths} - {"/admin/"}) | {"/nowhere", "/v1/nowhere"}:
        assert_refused(stranger.request(method, path), WRITES, 60, "writes")


def test_invented_tokens_are_limited(stranger: httpx.Client) -> None:
    for _ in range(LOOK_UPS):
        assert stranger.get("/v1/users/me", headers=invented()).status_code == 401
    for path in ("/v1/users/me", "/v1/characters", "/v1/nowhere"):
        assert_refused(stranger.get(path, headers=invented()), LOOK_UPS, 60, "token-look-ups")
    assert stranger.get("/v1/characters").status_code == 200, "without a token"


def test_a_token_that_was_valid_before_is_not_refused_for_invented_ones(stranger: httpx.Client) -> None:
    account = {"email": "known@example.org", "username": "known", "password": PASSWORD}
    assert stranger.post("/v1/users", json=account).status_code == 201
    token = stranger.post("/v1/sessions", json={"login": "known", "password": PASSWORD}).json()["token"]
    known = {"Authorization": f"Bearer {token}"}
    assert stranger.get("/v1/users/me", headers=known).status_code == 200
    for _ in range(LOOK_UPS):
        stranger.get("/v1/users/me", headers=invented())
    assert stranger.get("/v1/users/me", headers=invented()).status_code == 429
    assert stranger.get("/v1/users/me", headers=known).status_code == 200
    assert stranger.delete("/v1/sessions/current", headers=known).status_code == 204
    assert stranger.get("/v1/users/me", headers=known).status_code == 401, "looked up once more"
    assert stranger.get("/v1/users/me", headers=known).status_code == 429


def test_a_forwarded_address_counts_only_from_trusted_proxies(service: Service) -> None:
    with service.client(address="127.0.0.2") as liar:
        assert sign_in(liar, **{"X-Forwarded-For": next(addresses)}).status_code == 401
        assert sign_in(liar, **{"X-Forwarded-For": next(addresses)}).status_code == 429
    with service.client() as proxy:  # it appends the address of its client to the forged one
        behind = next(addresses)
        assert sign_in(proxy, **{"X-Forwarded-For": f"{next(addresses)}, {behind}"}).status_code == 401
        assert sign_in(proxy, **{"X-Forwarded-For": f"{next(addresses)}, {behind}"}).status_code == 429


def test_every_limit_is_as_documented() -> None:
    limits = [each for each in vars(rate_limits).values() if isinstance(each, rate_limits.Limit)]
    assert [(each.name, each.rate, each.seconds, each.by) for each in limits] == [
        ("reads", 6_000, 60, "caller"),
        ("writes", 1_200, 60, "caller"),
        ("token-look-ups", 1_200, 60, "address"),
        ("sign-in", 20, 60, "address"),
        ("sign-up", 10, 3_600, "address"),
        ("mail", 10, 3_600, "address"),
        ("new-email", 10, 3_600, "caller"),
        ("stored-bytes", 2 * 1024**3, 86_400, "caller"),
        ("written-bytes", 1024**3, 86_400, "caller"),
        ("stored-responses", 64 * 1024**2, 86_400, "caller"),
        ("recipient", 10, 3_600, "recipient"),
        ("recipient-of-links", 1, 60, "recipient"),
    ]


def test_routes_with_the_same_limit_share_its_counter() -> None:
    """Litestar copies handlers, and would copy their limits."""
    limits = {each.name: each for each in vars(rate_limits).values() if isinstance(each, rate_limits.Limit)}
    found = [
        (route, middleware.limit)
        for route, handler in HANDLERS.items()
        for middleware in handler.resolve_middleware()
        if isinstance(middleware, RateLimit)
    ]
    assert len(found) >= 8
    assert [route for route, limit in found if limit is not limits[limit.name]] == []


def test_a_window_ends() -> None:
    counter = LocalCounter(seconds=1)
    assert [counter.count("a") for _ in range(3)] == [(1, 1), (2, 1), (3, 1)]
    assert counter.count("b") == (1, 1)
    assert counter.count("b", 5) == (6, 1)
    time.sleep(1.05)
    assert counter.count("a") == (1, 1)


def test_counting_survives_more_callers_than_it_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.limits.counters._MAX_KEYS", 10)
    counter = LocalCounter(seconds=60)
    for number in range(95):
        assert counter.count(str(number)) == (1, 60)
    assert len(counter._ends_and_counts) <= 10


@pytest.mark.slow
def test_a_refused_sign_in_succeeds_after_retry_after(stranger: httpx.Client) -> None:
    sign_in(stranger)
    time.sleep(int(sign_in(stranger).headers["Retry-After"]) - 2)
    assert sign_in(stranger).status_code == 429
    time.sleep(3)
    assert sign_in(stranger).status_code == 401
