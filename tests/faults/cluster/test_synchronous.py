"""The ledger of acknowledged writes on Patroni with etcd and HAProxy, with a synchronous standby."""

import asyncio
from collections.abc import Iterator
from functools import partial

import pytest

from tests.faults.cluster.faults import EACH_FAILS_OVER, FAULTS, Fault
from tests.faults.cluster.patroni import Cluster, cluster_of_its_own
from tests.faults.cluster.programs import what_is_missing
from tests.faults.conftest import Report
from tests.support.ledger_runs import keep_ledger
from tests.support.servers import Service

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(what_is_missing()), reason=f"not installed: {what_is_missing()}"),
]

PATIENCE = 90.0  # seconds; a leader may be silent for 20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of_its_own(synchronous=True) as cluster:
        yield cluster


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_what_was_acknowledged_is_there(
    cluster: Cluster, services: list[Service], fault: Fault, report: Report
) -> None:
    await asyncio.to_thread(cluster.wait_until_whole)
    result = await keep_ledger([service.url for service in services], partial(fault, cluster), PATIENCE)
    report(result)
    if fault in EACH_FAILS_OVER:
        assert result.beginnings > 1, "a cursor of before the failover was accepted"
