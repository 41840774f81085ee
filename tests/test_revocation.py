"""What is revoked at one worker is refused by the others within five seconds."""

import time
from collections.abc import Iterator

import httpx
import pytest

from service.tokens.authentication import REMEMBERED
from tests.conftest import PASSWORD
from tests.running import Service, piccolo, service_of_its_own, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two(fresh_database: str) -> Iterator[tuple[Service, Service]]:
    """Two processes on one database."""
    assert piccolo("migrations", "forwards", DATABASE_URL=fresh_database).returncode == 0
    with (
        service_of_its_own(DATABASE_URL=fresh_database, RATE_LIMIT_SCALE="100") as one,
        service_of_its_own(DATABASE_URL=fresh_database, RATE_LIMIT_SCALE="100") as other,
    ):
        yield one.start(), other.start()


def signed_in(service: Service, username: str) -> httpx.Client:
    client = service.client()
    account = {"email": f"{username}@example.org", "username": username, "password": PASSWORD}
    client.post("/v1/users", json=account)
    session = client.post("/v1/sessions", json={"login": username, "password": PASSWORD})
    client.headers["Authorization"] = f"Bearer {session.json()['token']}"
    return client


@pytest.mark.parametrize("way", ["this session", "every session", "a key", "a new password", "leaving"])
def test_a_revocation_reaches_every_worker(two: tuple[Service, Service], way: str) -> None:
    one, other = two
    member, session = signed_in(one, f"way-{way.replace(' ', '-')}"), ""
    used, path = dict(member.headers), "/v1/users/me"
    if way == "a key":
        key = member.post("/v1/api-keys", json={"name": "CI", "scopes": ["characters:read"]}).json()
        used, path = {"Authorization": f"Bearer {key['token']}"}, "/v1/characters"
        session = key["id"]
    if way == "a new password":
        member = signed_in(one, f"way-{way.replace(' ', '-')}")
    with other.client(Authorization=used.get("authorization", used.get("Authorization", ""))) as elsewhere:
        assert elsewhere.get(path).status_code == 200
        ending = {
            "this session": ("DELETE", "/v1/sessions/current", None),
            "every session": ("DELETE", "/v1/sessions", None),
            "a key": ("DELETE", f"/v1/api-keys/{session}", None),
            "a new password": (
                "PUT", "/v1/users/me/password", {"current_password": PASSWORD, "new_password": "something quite new"}
            ),
            "leaving": ("DELETE", "/v1/users/me", {"password": PASSWORD}),
        }[way]  # fmt: skip
        assert elsewhere.get(path).status_code == 200, "remembered there from now on"
        method, address, body = ending
        assert member.request(method, address, json=body).status_code == 204
        ended = time.monotonic()
        with one.client(Authorization=elsewhere.headers["Authorization"]) as here:
            assert here.get(path).status_code == 401
        wait_until(lambda: elsewhere.get(path).status_code == 401, "It was not refused", patience=10)
        assert time.monotonic() - ended <= REMEMBERED + 0.5
    member.close()
