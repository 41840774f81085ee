"""Measures how the cost of a request grows with the table: rows and buffers touched in PostgreSQL, and time."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cores import OTHERS, stay_on
from benchmarks.costs import measure
from benchmarks.dataset import DIRECTORY, database
from benchmarks.layer_costs import How, Touched
from benchmarks.tables import markdown, where
from benchmarks.workloads import WORKLOADS


def main() -> None:
    given = _arguments()
    stay_on(OTHERS)
    grown: dict[int, dict[str, Touched]] = {}
    for size in given.sizes:
        with database(size, given.users, given.data_dir, durable=False) as dsn:
            grown[size] = measure(dsn, given.data_dir, list(WORKLOADS.values()), How(growth=True)).growth
    print(f"{where()}; rows / buffers / microseconds of the fastest tenth.\n")
    print(growth_table(grown))


def growth_table(grown: dict[int, dict[str, Touched]]) -> str:
    sizes: Sequence[int] = sorted(grown)
    rows = []
    for name in WORKLOADS:
        touched = [grown[size][name] for size in sizes]
        first, last = touched[0], touched[-1]
        grew = [f"{last.buffers / first.buffers:.2f}×" if last.buffers and first.buffers else "", _times(last, first)]
        rows.append([name, *map(_cell, touched), *grew])
    return markdown(["work", *(f"{size:,}" for size in sizes), "buffers", "time"], rows)


def _cell(touched: Touched) -> str:
    plan = "" if touched.rows is None else f"{touched.rows:,.0f} / {touched.buffers:,.0f} / "
    return f"{plan}{touched.microseconds:,.0f} µs"


def _times(last: Touched, first: Touched) -> str:
    return f"{last.microseconds / first.microseconds:.2f}×"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--data-dir", type=Path, default=DIRECTORY)
    return parser.parse_args()


if __name__ == "__main__":
    main()
