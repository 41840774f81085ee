"""What ``benchmarks.costs`` asks of ``benchmarks.peeling``, and is told."""

import msgspec

from benchmarks.load import Request


class Work(msgspec.Struct):
    routes: dict[str, list[Request]]
    seconds: float  # for each route
    profile: str | None = None


class Costs(msgspec.Struct):
    """Microseconds of processor time of each layer and all within it, outermost first, by route."""

    routes: dict[str, dict[str, float]] = {}
    profile: str = ""
