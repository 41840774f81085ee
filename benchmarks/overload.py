"""Measures how other clients are served while one client holds a thousand connections, sends oversized requests, or
sends ten times too many.

    python -m benchmarks.overload [seconds]

One worker runs as the Procfile starts it, with default settings except for rate limits, and a database of its own. A
client in another process, at another address, reads a character and /health/live in turn. Its times are printed as
ratios to those of an idle period just before.
"""

import asyncio
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http.client import HTTPConnection

import httpx

from service.database import embedded
from tests.support.servers import Service, directory_of_its_own, piccolo, worker_of_its_own

IN_FLIGHT = 200  # the default of MAX_REQUESTS_IN_FLIGHT
HEAD = "{} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
HELD = {
    "idle": HEAD.format("GET /health/live") + "\r\n",
    "slow headers": HEAD.format("GET /v1/characters"),
    "slow bodies": HEAD.format("POST /v1/users") + "Content-Length: 9000\r\n\r\n{",
    "slow readers": (HEAD.format("GET /openapi.json") + "\r\n") * 5,
}
BIG = 1024 * 1024
OVERSIZED = {
    "a URL": (HEAD.format(f"GET /v1/characters?q={'a' * 30_000}") + "\r\n", 414),
    "parameters": (HEAD.format(f"GET /v1/characters?{'&'.join(f'p{n}=1' for n in range(500))}") + "\r\n", 400),
    "headers": (
        HEAD.format("GET /v1/characters") + "".join(f"X-{n}: {'a' * 900}\r\n" for n in range(60)) + "\r\n",
        431,
    ),
    "a body": (HEAD.format("POST /v1/users") + f"Content-Length: {2 * BIG}\r\n\r\n" + "a" * 2 * BIG, 413),
    "depth": (HEAD.format("POST /v1/users") + f"Content-Length: {BIG // 2}\r\n\r\n" + "[" * (BIG // 2), 400),
    "JSON": (HEAD.format("POST /v1/users") + f"Content-Length: {BIG - 1}\r\n\r\n[" + "1," * (BIG // 2 - 2) + "1]", 422),
}

Seen = dict[str, list[tuple[int, float]]]  # status and seconds, by path


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    with directory_of_its_own() as directory:
        share = embedded.start(directory, ephemeral=True)
        try:
            dsn = embedded.dsn(directory)
            assert piccolo("migrations", "forwards", DATABASE_URL=dsn).returncode == 0
            with worker_of_its_own(DATABASE_URL=dsn, RATE_LIMIT_SCALE="1000000") as service:
                asyncio.run(measure(service.start(), seconds))
        finally:
            share.stop()


async def measure(service: Service, seconds: float) -> None:
    path = await make_character(service)
    print(f"{'':28}{'others: ok':>11}{'503':>7}{'p50':>9}{'p99':>9}   {'live: ok':>9}{'p50':>9}{'p99':>9}{'max ms':>9}")
    for name, attack in {
        "1,000 held connections": hold,
        "oversized requests": send_oversized,
        "10 × overload": lambda service: overload(service, path),
    }.items():
        before = await read(service, path, seconds)
        async with attack(service) as result:
            meanwhile = await read(service, path, seconds)
        for line in (row(name, before, meanwhile), f"    idle: {milliseconds(before)}; {result() or ''}"):
            print(line, flush=True)


async def make_character(service: Service) -> str:
    account = {"email": "o@example.org", "username": "overload", "password": "a long enough password"}
    async with httpx.AsyncClient(base_url=service.url) as client:
        await client.post("/v1/users", json=account)
        session = await client.post("/v1/sessions", json={"login": "overload", "password": account["password"]})
        headers = {"Authorization": f"Bearer {session.json()['token']}"}
        body = {"name": "Mira", "description": "d" * 500, "visibility": "public"}
        return f"/v1/characters/{(await client.post('/v1/characters', json=body, headers=headers)).json()['id']}"


# The other client


async def read(service: Service, path: str, seconds: float) -> Seen:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return await asyncio.to_thread(pool.apply, read_in_turn, (service.port, path, seconds))


def read_in_turn(port: int, path: str, seconds: float) -> Seen:
    connection = HTTPConnection("127.0.0.1", port, timeout=60, source_address=("127.0.0.2", 0))
    seen: Seen = {path: [], "/health/live": []}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for each in (path, path, path, "/health/live"):
            began = time.perf_counter()
            connection.request("GET", each)
            answer = connection.getresponse()
            answer.read()
            seen[each].append((answer.status, time.perf_counter() - began))
        time.sleep(0.005)
    return seen


def row(name: str, before: Seen, meanwhile: Seen) -> str:
    cells = []
    for path in before:
        usual, now = succeeded(before[path]), succeeded(meanwhile[path])
        statuses = Counter(status for status, _ in meanwhile[path])
        assert set(statuses) <= {200, 503}, statuses
        cells.append(f"{statuses[200]:11}" + (f"{statuses[503]:7}" if path != "/health/live" else ""))
        cells.extend(f"{at(now, share) / at(usual, share):8.1f}×" for share in (0.5, 0.99))
    assert not any(status == 503 for status, _ in meanwhile["/health/live"])
    return f"{name:28}{''.join(cells)}{1000 * max(succeeded(meanwhile['/health/live'])):9.1f}"


def milliseconds(seen: Seen) -> str:
    times = succeeded(next(iter(seen.values())))
    return f"p50 {1000 * at(times, 0.5):.2f} ms, p99 {1000 * at(times, 0.99):.2f} ms"


def succeeded(seen: list[tuple[int, float]]) -> list[float]:
    return sorted(seconds for status, seconds in seen if status == 200)


def at(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(share * len(times)))] if times else float("nan")


# The attacks


@asynccontextmanager
async def hold(service: Service) -> AsyncIterator[Callable[[], str]]:
    held = []
    for sent in HELD.values():
        for _ in range(250):
            reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1024)
            writer.write(sent.encode())
            held.append((reader, writer))
    await asyncio.sleep(5)  # until the service has accepted all
    yield lambda: f"{sum(not reader.at_eof() for reader, _ in held)} connections still held"
    for _, writer in held:
        writer.close()


@asynccontextmanager
async def send_oversized(service: Service) -> AsyncIterator[Callable[[], str]]:
    counts: Counter[str] = Counter()

    async def keep_sending(name: str, sent: bytes, status: int) -> None:
        while True:
            answered = await answer_to(service, sent)
            assert answered in (status, 503), f"{name}: {answered}"
            counts[f"{answered}"] += 1

    work = [partial(keep_sending, name, sent.encode(), status) for name, (sent, status) in OVERSIZED.items()]
    async with running(work):
        yield lambda: as_json(counts)


async def answer_to(service: Service, sent: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    try:
        writer.write(sent)
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()


@asynccontextmanager
async def overload(service: Service, path: str) -> AsyncIterator[Callable[[], str]]:
    """Ten times as many clients as the worker serves at once. Each asks again as soon as it has an answer."""
    counts: Counter[str] = Counter()
    request = (HEAD.format(f"GET {path.rpartition('/')[0]}?limit=20") + "\r\n").encode()

    async def keep_reading() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        try:
            while True:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                await reader.readexactly(length)
                counts[head.split(b" ", 2)[1].decode()] += 1
        finally:
            writer.close()

    async with running([keep_reading] * (10 * IN_FLIGHT)):
        yield lambda: as_json(counts)


@asynccontextmanager
async def running(work: Sequence[Callable[[], Awaitable[None]]]) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        tasks = [asyncio.ensure_future(each()) for each in work]
        stack.callback(lambda: [task.cancel() for task in tasks])
        await asyncio.sleep(3)  # until all are connected
        yield
        for task in tasks:
            if task.done():
                task.result()


def as_json(counts: Counter[str]) -> str:
    return json.dumps(dict(sorted(counts.items())))


if __name__ == "__main__":
    main()
