"""The service's process in ``benchmarks.costs``. It measures the layers of the application that a request passes.

``python -m benchmarks.layers FILE`` reads Work from standard input and writes Costs to the file. The log goes to
standard output, as in production.
"""

import asyncio
import cProfile
import gc
import io
import pstats
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import uvloop
from asyncpg.pool import PoolConnectionProxy

from benchmarks.layer_costs import Costs, Touched, Work
from benchmarks.load import ETAG, Request
from benchmarks.plans import Statement, cost_of
from service.app import app
from service.database.engine import DB
from service.identifiers import uuid7

AT_ONCE = 8
BATCH = 40  # calls: short enough to run undisturbed sometimes
PROFILED = 3_000  # calls
EXPLAINED = 9  # requests of each route
CALLS = 400  # in sequence, for a latency
QUANTILE = 0.05  # of the batches' times; the cost is this one

Call = Callable[[], Awaitable[Any]]


class Stack:
    """The layers of one route. Each layer gets the scope that it received when the request passed all layers."""

    def __init__(self, requests: list[Request]) -> None:
        self.requests = [(scope_of(request), body_of(request), request.status) for request in requests]
        self.layers: dict[str, Call] = {}
        self.statements: list[list[Callable[[], Statement]]] = []  # by request; empty for work in a transaction

    async def split(self) -> None:
        asgi, seen = _chain(), {}
        for name, layer in asgi.items():
            scopes = [await self._scope_at(layer, *request) for request in self.requests]
            seen[name] = [(scope, body) for scope, (_, body, _) in zip(scopes, self.requests, strict=True)]
        for name, layer in asgi.items():
            self.layers[name] = _asgi_call(layer, seen[name])
        routed = []
        for scope, body in seen["Litestar: routing"]:
            inner, handler, path, parameters, template = app.asgi_router.handle_routing(scope["path"], scope["method"])
            found = {"route_handler": handler, "path": path, "path_params": parameters, "path_template": template}
            routed.append((inner, scope | found, body))
        inner = routed[0][0]
        self.layers["Litestar: guards, arguments, response"] = _asgi_call(inner, [each[1:] for each in routed])
        calls = [await self._handler_calls(inner, scope, body) for _, scope, body in routed]
        self.layers["handler and queries"] = _in_turn([call for call, _ in calls])
        if not all(statements for _, statements in calls):
            return
        inserts = self.requests[0][0]["method"] == "POST"
        replays = self.statements = [[_again(each, inserts) for each in statements] for _, statements in calls]
        if not any(each.is_shared for _, statements in calls for each in statements):
            self.layers["connection from the pool"] = _in_turn([_from_pool(replay) for replay in replays])
            self.layers["asyncpg and the round trips"] = _in_turn([_on_one_held(replay) for replay in replays])

    async def _scope_at(self, layer: Any, scope: dict[str, Any], body: bytes, status: int) -> dict[str, Any]:
        """The scope of a request at a layer. Raises RuntimeError when the response has an unexpected status."""
        if layer is app:
            return scope
        seen: dict[str, Any] = {}
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.append(message.get("status", 0))

        with _spying(layer, seen):
            await app(_fresh(scope), _receive(body), send)
        if statuses[0] != status:
            raise RuntimeError(f"{scope['path']} has status {statuses[0]}, not {status}.")
        return seen

    async def _handler_calls(self, inner: Any, scope: Any, body: bytes) -> tuple[Call, list[Statement]]:
        """A call of the handler with the arguments that Litestar passed, and its statements; none in a transaction."""
        handler = scope["route_handler"]
        function = handler._fn
        given: dict[str, Any] = {}

        async def record(**arguments: Any) -> Any:
            given.update(arguments)
            with _recording(statements):
                return await function(**arguments)

        statements: list[Statement] = []
        handler._fn = record
        try:
            await inner(_fresh(scope), _receive(body), _SEND)
        finally:
            handler._fn = function
        if any(statement.sql.rstrip().endswith(("FOR UPDATE", "FOR NO KEY UPDATE")) for statement in statements):
            statements = []
        return lambda: function(**given), statements


def _chain() -> dict[str, Any]:
    """The ASGI applications in front of Litestar's router, and the router, by name."""
    found: dict[str, Any] = {"Litestar: entry": app}
    layer: Any = app.asgi_handler
    while layer is not app.asgi_router:
        found[type(layer).__name__] = layer
        layer = layer.app
    return found | {"Litestar: routing": layer}


@contextmanager
def _spying(layer: Any, seen: dict[str, Any]) -> Iterator[None]:
    """Copies the scope that ``layer`` receives into ``seen``."""
    above: Any = app
    name = "asgi_handler"
    while getattr(above, name) is not layer:
        above, name = getattr(above, name), "app"

    async def spy(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope, headers=list(scope["headers"]))
        await layer(scope, receive, send)

    setattr(above, name, spy)
    try:
        yield
    finally:
        setattr(above, name, layer)


@contextmanager
def _recording(statements: list[Statement]) -> Iterator[None]:
    originals = {name: getattr(PoolConnectionProxy, name) for name in ("fetch", "fetchrow", "fetchval")}
    task = asyncio.current_task()

    def recorder(name: str) -> Any:
        def record(connection: Any, sql: str, *arguments: Any, **options: Any) -> Any:
            statements.append(Statement(name, sql, arguments, is_shared=asyncio.current_task() is not task))
            return originals[name](connection, sql, *arguments, **options)

        return record

    for name in originals:
        setattr(PoolConnectionProxy, name, recorder(name))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(PoolConnectionProxy, name, original)


def _asgi_call(layer: Any, given: list[tuple[dict[str, Any], bytes]]) -> Call:
    turns = cycle(given)

    def call() -> Awaitable[Any]:
        scope, body = next(turns)
        answer: Awaitable[Any] = layer(_fresh(scope), _receive(body), _SEND)
        return answer

    return call


def _in_turn(calls: list[Call]) -> Call:
    turns = cycle(calls)
    return lambda: next(turns)()


def _again(statement: Statement, inserts: bool) -> Callable[[], Statement]:
    """The statement. One that inserts a row gets a new id each time."""
    if not (inserts and "INSERT" in statement.sql):
        return lambda: statement
    id_at = next(number for number, value in enumerate(statement.arguments) if isinstance(value, UUID))
    before, after = statement.arguments[:id_at], statement.arguments[id_at + 1 :]
    return lambda: statement._replace(arguments=(*before, uuid7(), *after))


def _from_pool(replay: list[Callable[[], Statement]]) -> Call:
    async def call() -> None:
        for each in replay:
            method, sql, arguments, _ = each()
            async with DB.connection() as connection:
                await getattr(connection, method)(sql, *arguments)

    return call


_held: list[Any] = []


def _on_one_held(replay: list[Callable[[], Statement]]) -> Call:
    async def call() -> None:
        connection = _held.pop()
        for each in replay:
            method, sql, arguments, _ = each()
            await getattr(connection, method)(sql, *arguments)
        _held.append(connection)

    return call


def scope_of(request: Request) -> dict[str, Any]:
    """The scope that uvicorn would create."""
    head = request.data.replace(ETAG, b"*").partition(b"\r\n\r\n")[0].split(b"\r\n")
    method, target, _ = head[0].decode().split(" ")
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in (line.split(b": ", 1) for line in head[1:])],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8000),
        "extensions": {},
    }


def body_of(request: Request) -> bytes:
    return request.data.partition(b"\r\n\r\n")[2]


def _fresh(scope: dict[str, Any]) -> Any:
    return scope | {
        "headers": list(scope["headers"]),
        "state": {"request_id": "benchmark", "headers": {}, "server_send": _SEND},
    }


def _receive(body: bytes) -> Any:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


class _Server:
    """The part of uvicorn's object for a request that the service looks at: its client takes everything at once."""

    flow = SimpleNamespace(write_paused=False)

    async def send(self, _: Any) -> None:
        pass


_SEND = _Server().send


async def _batch(call: Call, calls: int) -> float:
    """Microseconds of processor time for each call."""

    async def one_of_many() -> None:
        for _ in range(calls // AT_ONCE):
            await call()

    began = time.process_time_ns()
    await asyncio.gather(*(one_of_many() for _ in range(AT_ONCE)))
    return (time.process_time_ns() - began) / calls / 1000


async def _measure(stack: Stack, seconds: float) -> dict[str, float]:
    batches: dict[str, list[float]] = {name: [] for name in stack.layers}
    order = list(stack.layers)
    end = time.monotonic() + seconds
    gc.collect()
    gc.freeze()
    gc.disable()
    while time.monotonic() < end or not batches[order[0]]:
        random.shuffle(order)
        for name in order:
            batches[name].append(await _batch(stack.layers[name], BATCH))
        gc.collect()
    gc.enable()
    return {name: sorted(times)[int(QUANTILE * len(times))] for name, times in batches.items()}


async def _profile(stack: Stack) -> str:
    call = next(iter(stack.layers.values()))
    await _batch(call, BATCH)
    profiler = cProfile.Profile()
    profiler.enable()
    await _batch(call, PROFILED)
    profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(45)
    return text.getvalue()


async def _touched(stack: Stack) -> Touched:
    plans = []
    for replay in stack.statements[:EXPLAINED]:
        costs = [await cost_of(_held[0], each()) for each in replay]
        plans.append((sum(cost.rows for cost in costs), sum(cost.buffers for cost in costs)))
    call = next(iter(stack.layers.values()))
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    rows, buffers = [median(each) for each in zip(*plans, strict=True)] or [None, None]
    return Touched(rows, buffers, 1e6 * sorted(times)[CALLS // 10])


async def _work(work: Work) -> Costs:
    costs = Costs()
    async with app.lifespan(), AsyncExitStack() as held:
        for _ in range(AT_ONCE):
            _held.append(connection := await DB.get_new_connection())
            held.push_async_callback(connection.close)
            await connection.execute("SET pg_trgm.word_similarity_threshold = 0.5")  # as the service's pool does
        for name, requests in work.routes.items():
            stack = Stack(requests)
            await stack.split()
            if work.how.profile:
                costs.profile = await _profile(stack)
            elif work.how.growth:
                costs.growth[name] = await _touched(stack)
            else:
                costs.routes[name] = await _measure(stack, work.how.seconds)
    return costs


def main() -> None:
    work = msgspec.json.decode(sys.stdin.buffer.read(), type=Work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        costs = runner.run(_work(work))
    Path(sys.argv[1]).write_bytes(msgspec.json.encode(costs))


if __name__ == "__main__":
    main()
