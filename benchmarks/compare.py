"""``make bench``: compares this service, with everything on, with other stacks.

The measured server has one core. PostgreSQL and the load share the others. Rounds are interleaved, so that other work
of the machine affects all servers.
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.cores import OTHERS, stay_on
from benchmarks.dataset import DIRECTORY, database
from benchmarks.load import Request, run
from benchmarks.servers import ON_NODE, OURS, Server, peer, peers, service, why_without_node
from benchmarks.tables import markdown, where
from benchmarks.workloads import WORKLOADS, Given, Workload, job, prepare, tidy

Rates = dict[str, list[float]]  # by server: requests a second in each round


def main() -> None:
    given = _arguments()
    stay_on(OTHERS)
    if reason := why_without_node():
        print(f"{' and '.join(ON_NODE)} are left out: {reason}.\n")
    with ExitStack() as stack:
        dsn = stack.enter_context(database(given.characters, given.users, given.data_dir, durable=given.durable))
        servers = [stack.enter_context(service(dsn, given.data_dir))]
        servers += [stack.enter_context(peer(name, dsn, given.data_dir)) for name in peers()]
        prepared = prepare(dsn, servers[0])
        workloads = [WORKLOADS[name] for name in given.workloads]
        for workload in workloads:
            check_equality(workload, prepared, servers)
        measured: dict[str, Rates] = {workload.name: {} for workload in workloads}
        for _ in range(given.rounds):
            for workload in workloads:
                for server in filter(workload.is_for, servers):
                    result = run(job(workload, prepared, server, given.seconds), OTHERS)
                    measured[workload.name].setdefault(server.name, []).append(result.per_second)
                    tidy(workload, prepared)
    commits = "" if given.durable else " Commits do not wait for the disk."
    rounds = f"medians of {given.rounds} rounds of {given.seconds:g} s"
    print(f"{where()}; {given.characters:,} characters, {rounds}.{commits}\n")
    names = [server.name for server in servers]
    print(rates_table(measured, names), ratios_table(measured, names[1:]), sep="\n\n")


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


def rates_table(measured: dict[str, Rates], names: Sequence[str]) -> str:
    """Requests a second, with the spread of the rounds."""
    rows = []
    for work, rates in measured.items():
        cells = [
            f"{median(rates[name]):,.0f} ±{_spread(rates[name]):.0f} %" if name in rates else "–" for name in names
        ]
        rows.append([work, *cells])
    return markdown(["requests a second", *names], rows)


def ratios_table(measured: dict[str, Rates], names: Sequence[str]) -> str:
    rows = []
    for work, rates in measured.items():
        ours = median(rates[OURS])
        rows.append([work, *(f"{ours / median(rates[name]):.2f}×" if name in rates else "–" for name in names)])
    return markdown([f"{OURS}, compared with", *names], rows)


def _spread(rates: Sequence[float]) -> float:
    middle = median(rates)  # 0 when a loaded machine served nothing in time
    return 50 * (max(rates) - min(rates)) / middle if middle else 0.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--no-wait", dest="durable", action="store_false", help="commits do not wait for the disk")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="WORK")
    parser.add_argument("--data-dir", type=Path, default=DIRECTORY)
    return parser.parse_args()


if __name__ == "__main__":
    main()
