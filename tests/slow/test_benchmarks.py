"""The benchmarks run. With so little data, their figures mean nothing."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.servers import ON_NODE, OURS, peers, why_without_node
from benchmarks.workloads import WORKLOADS
from tests.support.servers import ROOT, VARIABLES, directory_of_its_own, end_processes_of

pytestmark = pytest.mark.slow

FEW = ("--characters=400", "--users=20")
BRIEFLY = "--seconds=0.3"


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    with directory_of_its_own() as directory:
        yield directory / "data"
        end_processes_of(directory / "data")


@pytest.fixture(scope="module")
def comparison(data_dir: Path) -> str:
    installed = ["make", f"PYTHON={sys.executable}", "peers"]
    subprocess.run(installed, cwd=ROOT, check=True, capture_output=True, timeout=600)
    return printed("compare", data_dir, *FEW, BRIEFLY, "--rounds=1")


def rows(script: str, data_dir: Path, *arguments: str) -> dict[str, list[str]]:
    return rows_of(printed(script, data_dir, *arguments))


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of all tables by their first cell. The cells of a later table are appended."""
    found: dict[str, list[str]] = {}
    for line in re.findall(r"^\| (.*) \|$", text, re.MULTILINE):
        first, *cells = (cell.strip() for cell in line.split(" | "))
        found.setdefault(first, []).extend(cells)
    return found


def printed(script: str, data_dir: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{script}", *arguments, f"--data-dir={data_dir}"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in VARIABLES},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return done.stdout


def figure(cell: str) -> float:
    return float(re.sub(r"[*,×µs ]|±.*", "", cell))


def test_the_comparison_prints_rates_ratios_and_costs(comparison: str) -> None:
    printed_rows = rows_of(comparison)
    names = [OURS, *peers()]
    assert printed_rows["requests a second"] == names * 3, "one table for each way"
    for work, workload in WORKLOADS.items():
        able = len([name for name in names if workload.by is None or name in workload.by])
        cells = iter(printed_rows[work])
        for _ in range(3 if workload.is_write else 1):
            rates = [next(cells) for _ in names]
            assert [figure(rate) > 0 for rate in rates if rate != "–"] == [True] * able
            ratios = [next(cells) for _ in names[1:]]
            assert len([ratio for ratio in ratios if ratio != "–"]) == able - 1
            costs = [next(cells).split(" + ") for _ in names]
            assert [float(cost[0]) > 0 < float(cost[1]) for cost in costs if len(cost) == 2] == [True] * able
        assert [*cells] == []


def test_the_comparison_has_the_peers_on_node(comparison: str) -> None:
    if reason := why_without_node():
        assert f"left out: {reason}." in comparison
        pytest.skip(reason)
    assert set(rows_of(comparison)["requests a second"]) >= set(ON_NODE)


def test_costs_prints_layers_and_sums(data_dir: Path) -> None:
    printed_rows = rows("costs", data_dir, *FEW, BRIEFLY)
    assert printed_rows["layer"] == list(WORKLOADS)
    for number, work in enumerate(WORKLOADS):
        layers = [
            figure(cells[number]) for name, cells in printed_rows.items() if name != "layer" and cells[number].isdigit()
        ]
        assert layers, work
        assert figure(printed_rows["**all**"][number]) > 0
    assert "asyncpg and the round trips" in printed_rows


def test_a_profile_lists_functions(data_dir: Path) -> None:
    assert "access_log.py" in printed("costs", data_dir, *FEW, "--profile=one by id")


def test_growth_prints_buffers(data_dir: Path) -> None:
    printed_rows = rows("growth", data_dir, "--sizes", "400", "800", "--users=20")
    for work in set(WORKLOADS) - {"patch"}:
        _, buffers, _ = printed_rows[work][0].split(" / ")
        assert figure(buffers) > 0


def test_memory_prints_samples(data_dir: Path) -> None:
    *mebibytes, _ = rows("memory", data_dir, *FEW, "--minutes=0.05", "--rate=100")["resident"]
    assert all(30 < figure(each) < 500 for each in mebibytes)


def test_serving_prints_latencies_and_workers(data_dir: Path) -> None:
    printed_rows = rows("serving", data_dir, *FEW, BRIEFLY, "--rounds=1")
    for work in ("one by id", "page of 20", "create"):
        assert all(figure(each) > 0 for each in printed_rows[work])
        assert len(printed_rows[work]) == 4 + 3
