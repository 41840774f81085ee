"""Measures the processor time of a request by layer. It calls the ASGI application directly, without a network.

The figure of a layer is its own time: the time of the stack from this layer on, less that of the stack behind it. Only
the processor time of the service's process counts. Eight requests run at once, as under load. Batches of all layers are
interleaved, the garbage collector is off, and the fastest batches count, because noise only adds time.
``--profile "one by id"`` prints the time of each Python function for one route.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.cores import OTHERS, SERVER, pinned_to, stay_on
from benchmarks.dataset import DIRECTORY, database
from benchmarks.layer_costs import Costs, How, Work
from benchmarks.servers import ROOT, production, service
from benchmarks.tables import markdown, where
from benchmarks.workloads import WORKLOADS, Workload, prepare, tidy

ROUTED = 1_200  # different requests: more than Litestar's cache of routes holds


def main() -> None:
    given = _arguments()
    stay_on(OTHERS)
    names = [given.profile] if given.profile else given.workloads
    workloads = [WORKLOADS[name] for name in names]
    with database(given.characters, given.users, given.data_dir, durable=False) as dsn:
        costs = measure(dsn, given.data_dir, workloads, How(given.seconds, profile=bool(given.profile)))
    if given.profile:
        print(costs.profile)
        return
    print(f"{where()}; {given.characters:,} characters; microseconds of processor time a request.\n")
    print(costs_table(costs))


def measure(dsn: str, directory: Path, workloads: list[Workload], how: How) -> Costs:
    with service(dsn, directory) as ours:
        prepared = prepare(dsn, ours)
        routes = {workload.name: workload.requests(prepared, ours)[:ROUTED] for workload in workloads}
    work = msgspec.json.encode(Work(routes, how))
    with tempfile.NamedTemporaryFile() as result, (directory / "logs/costs.log").open("wb") as log:
        command = [sys.executable, "-m", "benchmarks.layers", result.name]
        environment = production(dsn, directory)
        subprocess.run(pinned_to(SERVER, command), cwd=ROOT, env=environment, input=work, stdout=log, check=True)
        for workload in workloads:
            tidy(workload, prepared)
        return msgspec.json.decode(Path(result.name).read_bytes(), type=Costs)


def costs_table(costs: Costs) -> str:
    """The own time of each layer, and the sum."""
    layers = list(dict.fromkeys(name for route in costs.routes.values() for name in route))
    own_times = [own(route) for route in costs.routes.values()]
    rows = [[name, *(f"{route[name]:.0f}" if name in route else "" for route in own_times)] for name in layers]
    rows.append(["**all**", *(f"**{next(iter(route.values())):.0f}**" for route in costs.routes.values())])
    return markdown(["layer", *costs.routes], rows)


def own(within: dict[str, float]) -> dict[str, float]:
    """The time of each layer without the layers behind it."""
    inner = [*list(within.values())[1:], 0.0]
    return {name: whole - behind for (name, whole), behind in zip(within.items(), inner, strict=True)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20, help="for each route")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), metavar="WORK")
    parser.add_argument("--profile", choices=WORKLOADS, metavar="WORK")
    parser.add_argument("--data-dir", type=Path, default=DIRECTORY)
    return parser.parse_args()


if __name__ == "__main__":
    main()
