"""``make bench``: compares this service, with everything on, with other stacks.

The measured server has one core. PostgreSQL and the load share the others. Rounds are interleaved, so that other work
of the machine affects all servers. Writes are measured in three ways: commits that wait for a slow disk hide what the
processors do, and the other stacks would not have all indexes of this service.
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec

from benchmarks.cores import OTHERS, stay_on
from benchmarks.dataset import DIRECTORY, copy_for_peers, database
from benchmarks.load import Job, Request, run
from benchmarks.processor import processor_times, seconds_between
from benchmarks.servers import ON_NODE, OURS, Server, peer, peers, service, why_without_node
from benchmarks.tables import markdown, where
from benchmarks.workloads import WORKLOADS, Given, Workload, job, prepare, tidy

Results = dict[str, list["Measured"]]  # by server: one of each round


class Way(NamedTuple):
    name: str
    durable: bool = False
    own_indexes: bool = False  # of the other stacks, in a database of their own
    writes_only: bool = False


WAYS = (
    Way("Commits do not wait for the disk. The other stacks have indexes of their own", own_indexes=True),
    Way("Commits do not wait for the disk. All stacks have the indexes of this service", writes_only=True),
    Way("Commits wait for the disk. All stacks have the indexes of this service", durable=True, writes_only=True),
)


class Measured(NamedTuple):
    """Requests a second, and microseconds of a processor for each request."""

    per_second: float
    server: float
    postgres: float


def main() -> None:
    given = _arguments()
    stay_on(OTHERS)
    if reason := why_without_node():
        print(f"{' and '.join(ON_NODE)} are left out: {reason}.\n")
    print(f"{where()}; {given.characters:,} characters, medians of {given.rounds} rounds of {given.seconds:g} s.")
    for way in WAYS:
        workloads = [WORKLOADS[name] for name in given.workloads]
        workloads = [each for each in workloads if each.is_write or not way.writes_only]
        if workloads:
            measured = compare(way, workloads, given)
            names = [OURS, *peers()]
            print(f"\n{way.name}:\n")
            tables = rates_table(measured, names), ratios_table(measured, names[1:]), costs_table(measured, names)
            print(*tables, sep="\n\n", flush=True)


def compare(way: Way, workloads: Sequence[Workload], given: argparse.Namespace) -> dict[str, Results]:
    measured: dict[str, Results] = {workload.name: {} for workload in workloads}
    with ExitStack() as stack:
        dsn = stack.enter_context(database(given.characters, given.users, given.data_dir, durable=way.durable))
        with service(dsn, given.data_dir) as ours:
            prepared = prepare(dsn, ours)
        of_peers = stack.enter_context(copy_for_peers(dsn)) if way.own_indexes else dsn
        postmaster = int((given.data_dir / "postgres/postmaster.pid").read_text().split()[0])
        servers = [stack.enter_context(service(dsn, given.data_dir))]
        servers += [stack.enter_context(peer(name, of_peers, given.data_dir)) for name in peers()]
        for workload in workloads:
            check_equality(workload, prepared, servers)
        for _ in range(given.rounds):
            for workload in workloads:
                for server in filter(workload.is_for, servers):
                    load = job(workload, prepared, server, given.seconds)
                    result = _measure(load, server.process.pid, postmaster)
                    measured[workload.name].setdefault(server.name, []).append(result)
                    tidy(workload, prepared._replace(dsn=dsn if server.name == OURS else of_peers))
    return measured


def _measure(load: Job, server: int, postmaster: int) -> Measured:
    before = processor_times(server), processor_times(postmaster)
    result = run(load, OTHERS)
    after = processor_times(server), processor_times(postmaster)
    return Measured(
        result.per_second, *(1e6 * each / max(1, result.answers) for each in map(seconds_between, before, after))
    )


def check_equality(workload: Workload, given: Given, servers: Sequence[Server]) -> None:
    """Raises RuntimeError unless all servers answer the first requests of a workload alike."""
    answers: list[Any] = []
    for server in filter(workload.is_for, servers):
        requests = workload.requests(given, server)[:3]
        answers += [(server.name, _path(request), _comparable(server, request)) for request in requests]
        tidy(workload, given)
    first = [answer for name, _, answer in answers if name == OURS]
    for number, (name, path, answer) in enumerate(answers):
        if answer != (expected := first[number % len(first)]):
            raise RuntimeError(f"{name} answers {path} differently:\n{answer!r:.2000}\n{expected!r:.2000}")


def _comparable(server: Server, request: Request) -> Any:
    """An answer without the values that differ between servers: cursors, and the ids and times of new rows."""
    head, _, body = request.data.decode().partition("\r\n\r\n")
    method, path, _ = head.split("\r\n")[0].split(" ")
    headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
    own = {name: value for name, value in headers.items() if name in ("Authorization", "If-None-Match")}
    own |= {"If-Match": "*"} if server.name == OURS and "If-Match" in headers else {}
    answer = server.ask(method, path, body=msgspec.json.decode(body) if body else None, **own)
    if answer.status != request.status:
        raise RuntimeError(f"{server.name} answers {answer.status} to {path}: {answer.body[:500]!r}")
    if answer.status == 304 or "graph" in path:
        return answer.status
    content = answer.json
    if method != "GET":
        return {
            name: value for name, value in content.items() if name not in ("id", "version", "created_at", "updated_at")
        }
    if "items" in content:
        return [_with_times(item) for item in content["items"]], content["next_cursor"] is None
    return _with_times(content)


def _with_times(item: dict[str, Any]) -> dict[str, Any]:
    """Truncates times to milliseconds: Prisma reads them into a JavaScript Date, which is no finer."""
    times = {name: datetime.fromisoformat(item[name]) for name in ("created_at", "updated_at")}
    return item | {name: time.replace(microsecond=time.microsecond // 1000 * 1000) for name, time in times.items()}


def _path(request: Request) -> str:
    return request.data.split(b"\r\n", 1)[0].decode()


def rates_table(measured: dict[str, Results], names: Sequence[str]) -> str:
    """Requests a second, with the spread of the rounds."""
    rows = []
    for work, results in measured.items():
        rates = {name: [each.per_second for each in rounds] for name, rounds in results.items()}
        cells = [
            f"{median(rates[name]):,.0f} ±{_spread(rates[name]):.0f} %" if name in rates else "–" for name in names
        ]
        rows.append([work, *cells])
    return markdown(["requests a second", *names], rows)


def ratios_table(measured: dict[str, Results], names: Sequence[str]) -> str:
    rows = []
    for work, results in measured.items():
        rates = {name: median(each.per_second for each in rounds) for name, rounds in results.items()}
        rows.append([work, *(f"{rates[OURS] / rates[name]:.2f}×" if name in rates else "–" for name in names)])
    return markdown([f"{OURS}, compared with", *names], rows)


def costs_table(measured: dict[str, Results], names: Sequence[str]) -> str:
    rows = []
    for work, results in measured.items():
        costs = {
            name: [median(each.server for each in rounds), median(each.postgres for each in rounds)]
            for name, rounds in results.items()
        }
        rows.append([work, *("{:.0f} + {:.0f}".format(*costs[name]) if name in costs else "–" for name in names)])
    return markdown(["processor µs a request, server + PostgreSQL", *names], rows)


def _spread(rates: Sequence[float]) -> float:
    middle = median(rates)  # 0 when a loaded machine served nothing in time
    return 50 * (max(rates) - min(rates)) / middle if middle else 0.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="WORK")
    parser.add_argument("--data-dir", type=Path, default=DIRECTORY)
    return parser.parse_args()


if __name__ == "__main__":
    main()
