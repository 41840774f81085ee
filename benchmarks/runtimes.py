"""Measures this service with other HTTP servers and event loops than those of the Procfile.

Granian is measured where it is installed (`pip install granian`); no other part of the project needs it.
"""

import argparse
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from benchmarks.cores import OTHERS, stay_on
from benchmarks.dataset import DIRECTORY, database
from benchmarks.load import run
from benchmarks.processor import processor_times, seconds_between
from benchmarks.servers import WEB, service
from benchmarks.tables import markdown, where
from benchmarks.workloads import WORKLOADS, job, prepare, tidy

MEASURED = ("one by id", "page of 20", "create")
BOUNDS = "--http service.web.protocol:BoundedProtocol"
_GRANIAN = "python -m granian --interface asgi --port $PORT --no-access-log service.app:app"
COMMANDS = {
    "uvicorn with the bounds of this service (`Procfile`)": WEB,
    "uvicorn without these bounds": WEB.replace(BOUNDS, "--http httptools"),
    "uvicorn with h11, in Python": WEB.replace(BOUNDS, "--http h11"),
    "uvicorn with the event loop of asyncio": f"{WEB} --loop asyncio",
    "Granian, event loop of asyncio": f"{_GRANIAN} --loop asyncio",
    "Granian, uvloop": f"{_GRANIAN} --loop uvloop",
}


def main() -> None:
    given = _arguments()
    stay_on(OTHERS)
    commands = {name: each for name, each in COMMANDS.items() if each.startswith("uvicorn") or find_spec("granian")}
    rates: dict[tuple[str, str], list[float]] = {}
    costs: dict[tuple[str, str], list[float]] = {}
    with database(given.characters, given.users, given.data_dir, durable=False) as dsn, ExitStack() as stack:
        servers = {name: stack.enter_context(service(dsn, given.data_dir, web=each)) for name, each in commands.items()}
        prepared = prepare(dsn, next(iter(servers.values())))
        for _ in range(given.rounds):
            for work in MEASURED:
                for name, server in servers.items():
                    before = processor_times(server.process.pid)
                    result = run(job(WORKLOADS[work], prepared, server, given.seconds), OTHERS)
                    used = seconds_between(before, processor_times(server.process.pid))
                    rates.setdefault((name, work), []).append(result.per_second)
                    costs.setdefault((name, work), []).append(1e6 * used / max(1, result.answers))
                    tidy(WORKLOADS[work], prepared)
    print(f"{where()}; {given.characters:,} characters; requests a second / processor µs of the server.\n")
    rows = [
        [name, *(f"{median(rates[name, work]):,.0f} / {median(costs[name, work]):,.0f}" for work in MEASURED)]
        for name in servers
    ]
    print(markdown(["server", *MEASURED], rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--data-dir", type=Path, default=DIRECTORY)
    return parser.parse_args()


if __name__ == "__main__":
    main()
