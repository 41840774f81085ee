"""Two instances of the service on a cluster."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.cluster.patroni import START, Cluster
from tests.support.servers import Service, directory_of_its_own, piccolo, worker_of_its_own

SETTINGS = {"RATE_LIMIT_SCALE": "10000", "SECRET_KEY": "JDnX3vGkq0m7sYb2cP9wLtRz5hFaU8e1"}


@contextmanager
def served(cluster: Cluster) -> Iterator[list[Service]]:
    """An instance that knows HAProxy, and one that knows all members."""
    primary = cluster.member("leader")
    for statement in ("CREATE ROLE service LOGIN", "CREATE DATABASE service OWNER service"):
        asyncio.run(primary.execute(statement))
    done = piccolo("migrations", "forwards", "all", DATABASE_URL=cluster.through_haproxy)
    assert done.returncode == 0, done.stderr
    with (
        directory_of_its_own() as files,
        worker_of_its_own(**SETTINGS, DATA_DIR=str(files), DATABASE_URL=cluster.through_haproxy) as one,
        worker_of_its_own(**SETTINGS, DATA_DIR=str(files), DATABASE_URL=cluster.through_all_hosts) as two,
    ):
        for service in (one, two):
            service.launch()
        for service in (one, two):
            service.wait_until_it_answers(START)
        yield [one, two]
