"""What is asked of ``benchmarks.peeling``, and told by it."""

import msgspec

from benchmarks.load import Request


class How(msgspec.Struct):
    """What is wanted of each route: the costs of its layers, or else a profile, or else what its statements touch."""

    seconds: float = 20
    profile: bool = False
    growth: bool = False


class Work(msgspec.Struct):
    routes: dict[str, list[Request]]
    how: How


class Touched(msgspec.Struct):
    """By one request: rows that were looked at and buffers, in the middle of several; and what a quick one takes."""

    rows: float | None  # none, of what is done in a transaction
    buffers: float | None
    microseconds: float


class Costs(msgspec.Struct):
    """Microseconds of processor time of each layer and all within it, outermost first, by route."""

    routes: dict[str, dict[str, float]] = {}
    growth: dict[str, Touched] = {}
    profile: str = ""
