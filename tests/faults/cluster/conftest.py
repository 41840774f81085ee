from collections.abc import Iterator

import pytest

from tests.faults.cluster.instances import served
from tests.faults.cluster.patroni import Cluster
from tests.support.servers import Service


@pytest.fixture(scope="module")
def services(cluster: Cluster) -> Iterator[list[Service]]:
    """The instances in front of the ``cluster`` of the module."""
    with served(cluster) as services:
        yield services
