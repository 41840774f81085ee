"""The input and the output of ``benchmarks.layers``."""

import msgspec

from benchmarks.load import Request


class How(msgspec.Struct):
    """The measurement of each route: by default the costs of its layers, otherwise a profile or the growth."""

    seconds: float = 20
    profile: bool = False
    growth: bool = False


class Work(msgspec.Struct):
    routes: dict[str, list[Request]]
    how: How


class Touched(msgspec.Struct):
    """By one request: the medians of the rows read and of the buffers, and the time of the fastest tenth."""

    rows: float | None  # None for work in a transaction
    buffers: float | None
    microseconds: float


class Costs(msgspec.Struct):
    """``routes``: by route, the microseconds of processor time of each layer with all layers inside it. The outermost
    layer is first."""

    routes: dict[str, dict[str, float]] = {}
    growth: dict[str, Touched] = {}
    profile: str = ""
