"""Measures the memory of a worker at even intervals under a mixed load."""

import argparse
import threading
from pathlib import Path

from benchmarks.cores import OTHERS, stay_on
from benchmarks.dataset import DIRECTORY, database
from benchmarks.load import Job, run
from benchmarks.servers import Server, resident, service
from benchmarks.tables import markdown, where
from benchmarks.workloads import CONNECTIONS, WORKLOADS, Given, job, prepare

SAMPLES = 60
FLAT = 0.05  # allowed growth in the second half, as a share


def main() -> None:
    given = _arguments()
    stay_on(OTHERS)
    with (
        database(given.characters, given.users, given.data_dir, durable=False) as dsn,
        service(dsn, given.data_dir) as ours,
    ):
        mixed = mixture(prepare(dsn, ours), ours, given.minutes * 60, given.rate)
        idle = resident(ours.process.pid)
        held = [idle]
        end = threading.Event()
        watch = threading.Thread(target=_watch, args=(ours.process.pid, held, given.minutes * 60 / SAMPLES, end))
        watch.start()
        try:
            answered = run(mixed, OTHERS).per_second * given.minutes * 60
        finally:
            end.set()
            watch.join()
    done = f"{given.minutes:g} minutes of all workloads in turn, {answered:,.0f} requests"
    print(f"{where()}; {done}, one worker, MiB.\n")
    print(memory_table(held))


def mixture(prepared: Given, ours: Server, seconds: float, rate: float) -> Job:
    """Most connections send the requests of all workloads in turn. The last quarter sends patches only, because each
    patch needs the ETag of the one before."""
    jobs = [job(workload, prepared, ours, seconds) for workload in WORKLOADS.values() if not workload.each_its_own]
    patches = job(WORKLOADS["patch"], prepared, ours, seconds)
    mixed = [[request for each in jobs for request in each.requests[number]] for number in range(CONNECTIONS)]
    last = CONNECTIONS - CONNECTIONS // 4
    etags = [b""] * last + patches.etags[last:]
    return Job(ours.port, mixed[:last] + patches.requests[last:], seconds, rate=rate, etags=etags)


def memory_table(held: list[float]) -> str:
    grew = held[-1] / held[len(held) // 2] - 1
    columns = {
        "idle": held[0],
        "after a quarter": held[len(held) // 4],
        "half": held[len(held) // 2],
        "three quarters": held[3 * len(held) // 4],
        "the end": held[-1],
        "at most": max(held),
    }
    cells = [*(f"{mebibytes:.1f}" for mebibytes in columns.values()), "flat" if grew <= FLAT else f"grew {grew:.0%}"]
    return markdown(["", *columns, "second half"], [["resident", *cells]])


def _watch(process: int, held: list[float], every: float, end: threading.Event) -> None:
    while not end.wait(every):
        held.append(resident(process))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=400, help="requests a second")
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--data-dir", type=Path, default=DIRECTORY)
    return parser.parse_args()


if __name__ == "__main__":
    main()
