"""Measures the service as a whole: its start, its latency at 70 % of the maximum load, and the gain of a second
worker."""

import argparse
import time
from pathlib import Path
from statistics import median

from benchmarks.cores import ARE_FREE_FOR_TWO, OTHERS, PAIR, SERVER, stay_on
from benchmarks.dataset import DIRECTORY, database
from benchmarks.load import run
from benchmarks.servers import service
from benchmarks.tables import markdown, where
from benchmarks.workloads import WORKLOADS, job, prepare, tidy

MEASURED = ("one by id", "page of 20", "create")
LOAD = 0.7


def main() -> None:
    given = _arguments()
    stay_on(OTHERS)
    print(f"{where()}; {given.characters:,} characters.\n")
    with database(given.characters, given.users, given.data_dir, durable=False) as dsn:
        starts = [start(dsn, given.data_dir) for _ in range(given.rounds)]
        print(f"First answer {median(starts):.2f} s after the start ({min(starts):.2f}–{max(starts):.2f}).\n")
        print(latency_table(dsn, given.data_dir, given.seconds), "", sep="\n")
        print(workers_table(dsn, given.data_dir, given.seconds, given.rounds))
        if not ARE_FREE_FOR_TWO:
            print("\nThis machine has fewer than three cores: the two workers share them with PostgreSQL and the load.")


def start(dsn: str, directory: Path) -> float:
    """Seconds until the first list is answered, with a migrated database."""
    began = time.monotonic()
    with service(dsn, directory):
        return time.monotonic() - began


def latency_table(dsn: str, directory: Path, seconds: float) -> str:
    """Latencies in milliseconds at a fixed rate of requests."""
    rows = []
    with service(dsn, directory) as ours:
        prepared = prepare(dsn, ours)
        for name in MEASURED:
            workload = WORKLOADS[name]
            most = run(job(workload, prepared, ours, seconds), OTHERS).per_second
            tidy(workload, prepared)
            result = run(job(workload, prepared, ours, seconds, rate=LOAD * most), OTHERS)
            tidy(workload, prepared)
            middle, late = result.at(0.5), result.at(0.99)
            rows.append([name, f"{LOAD * most:,.0f}", f"{middle:.2f}", f"{late:.2f}", f"{late / middle:.1f}×"])
    return markdown(["at 70 % load", "requests a second", "median, ms", "p99, ms", "p99 / median"], rows)


def workers_table(dsn: str, directory: Path, seconds: float, rounds: int) -> str:
    rates: dict[tuple[str, int], list[float]] = {}
    for _ in range(rounds):
        for workers, core in ((1, SERVER), (2, PAIR)):
            with service(dsn, directory, core=core, workers=workers) as ours:
                prepared = prepare(dsn, ours)
                for name in MEASURED:
                    result = run(job(WORKLOADS[name], prepared, ours, seconds), OTHERS)
                    rates.setdefault((name, workers), []).append(result.per_second)
                    tidy(WORKLOADS[name], prepared)
    rows = []
    for name in MEASURED:
        one, two = (median(rates[name, workers]) for workers in (1, 2))
        rows.append([name, f"{one:,.0f}", f"{two:,.0f}", f"{two / one:.2f}×"])
    return markdown(["requests a second", "one worker", "two workers", "two / one"], rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--data-dir", type=Path, default=DIRECTORY)
    return parser.parse_args()


if __name__ == "__main__":
    main()
