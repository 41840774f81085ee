"""A revocation takes effect in every worker within five seconds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from service.auth.token_cache import REMEMBERED
from tests.conftest import PASSWORD
from tests.support.servers import Service, piccolo, service_of_its_own, wait_until

pytestmark = pytest.mark.slow

CHANGE = {"current_password": PASSWORD, "new_password": "something quite new"}


@pytest.fixture(scope="module")
def two(fresh_database: str) -> Iterator[tuple[Service, Service]]:
    """Two processes on one database."""
    assert piccolo("migrations", "forwards", DATABASE_URL=fresh_database).returncode == 0
    with (
        service_of_its_own(DATABASE_URL=fresh_database, RATE_LIMIT_SCALE="100") as one,
        service_of_its_own(DATABASE_URL=fresh_database, RATE_LIMIT_SCALE="100") as other,
    ):
        yield one.start(), other.start()


@contextmanager
def signed_in(service: Service, username: str) -> Iterator[httpx.Client]:
    """A new session; of a new member, the first time."""
    with service.client() as client:
        account = {"email": f"{username}@example.org", "username": username, "password": PASSWORD}
        client.post("/v1/users", json=account)
        session = client.post("/v1/sessions", json={"login": username, "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {session.json()['token']}"
        yield client


@pytest.mark.parametrize("way", ["this-session", "every-session", "a-key", "a-new-password", "leaving"])
def test_a_revocation_reaches_every_worker(two: tuple[Service, Service], way: str) -> None:
    one, other = two
    with signed_in(one, way) as member, signed_in(one, way) as phone:
        key = phone.post(
            "/v1/api-keys", json={"name": "CI", "scopes": ["characters:read"], "current_password": PASSWORD}
        ).json()
        used, path = phone.headers["Authorization"], "/v1/users/me"
        method, address, body = {
            "this-session": ("DELETE", "/v1/sessions/current", None),
            "every-session": ("DELETE", "/v1/sessions", None),
            "a-key": ("DELETE", f"/v1/api-keys/{key['id']}", None),
            "a-new-password": ("PUT", "/v1/users/me/password", CHANGE),
            "leaving": ("DELETE", "/v1/users/me", {"password": PASSWORD}),
        }[way]
        if way == "a-key":
            used, path = f"Bearer {key['token']}", "/v1/characters"
        ending = phone if way == "this-session" else member
        with other.client(Authorization=used) as elsewhere, one.client(Authorization=used) as here:
            assert [client.get(path).status_code for client in (here, elsewhere)] == [200, 200], "remembered now"
            assert ending.request(method, address, json=body).status_code == 204
            ended = time.monotonic()
            assert here.get(path).status_code == 401
            wait_until(lambda: elsewhere.get(path).status_code == 401, "It was not refused", patience=10)
            assert time.monotonic() - ended <= REMEMBERED + 0.5
