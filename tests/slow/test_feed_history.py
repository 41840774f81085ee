"""The feed of changes after a failover to a standby that lacks acknowledged changes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.database.embedded_cluster import Place
from tests.support.servers import PASSWORD, Service, copy_cluster, directory_of_its_own, end_processes_of

pytestmark = pytest.mark.slow

CHANGES = "/v1/changes"


@contextmanager
def member(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        session = client.post("/v1/sessions", json={"login": "alice", "password": PASSWORD})
        client.headers["Authorization"] = f"Bearer {session.json()['token']}"
        yield client


def create(client: httpx.Client, name: str) -> None:
    assert client.post("/v1/characters", json={"name": name}).status_code == 201


def copy_of_the_cluster(before: Path, after: Path) -> None:
    """As a standby is: the same files, which PostgreSQL brings to the end of the log that it has, as a new timeline."""
    copy_cluster(before, after)
    cluster = Place(after).cluster
    (cluster / "recovery.signal").touch()
    with (cluster / "postgresql.auto.conf").open("a") as settings:
        settings.write("restore_command = 'false'\n")


def test_a_promoted_standby_refuses_cursors_of_changes_that_it_lacks() -> None:
    with directory_of_its_own() as one, directory_of_its_own() as two:
        primary, standby = Service(one), Service(two)
        try:
            primary.start()
            with primary.client() as stranger:
                account = {"email": "alice@example.org", "username": "alice", "password": PASSWORD}
                assert stranger.post("/v1/users", json=account).status_code == 201
            with member(primary) as alice:
                create(alice, "Both")
                kept = alice.get(CHANGES).json()["next_cursor"]
            assert primary.stop() == 0
            copy_of_the_cluster(primary.data_dir, standby.data_dir)
            primary.start()
            with member(primary) as alice:
                for number in range(20):
                    create(alice, f"Lost {number}")
                lost = alice.get(CHANGES, params={"after": kept}).json()["next_cursor"]
            assert primary.stop() == 0
            standby.start()
            with member(standby) as alice:
                create(alice, "New")
                for cursor in (kept, lost):
                    assert alice.get(CHANGES, params={"after": cursor}).status_code == 400
                page = alice.get(CHANGES).json()
                assert [item["character"]["name"] for item in page["items"]] == ["Both", "New"]
                create(alice, "Newer")
                page = alice.get(CHANGES, params={"after": page["next_cursor"]}).json()
                assert [item["character"]["name"] for item in page["items"]] == ["Newer"]
        finally:
            for service in (primary, standby):
                if service.is_running:
                    service.stop()
                end_processes_of(service.data_dir)
