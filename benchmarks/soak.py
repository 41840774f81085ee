"""Runs the service for an hour under the requests of real use, and says what grows.

    python -m benchmarks.soak --minutes 60 --rate 20 [--workers 2]

Requests come at random times, whether or not earlier ones have been answered. Every answer is checked. Each minute, a
line tells the memory and descriptors of each process of the service, and the connections, files and queues. The daily
commands run four times. A figure is flat if the line through its samples after the first quarter rises in an hour by no
more than 2 % or 1.
"""

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import linear_regression, mean

import httpx
from aiosmtpd.controller import Controller

from benchmarks.dataset import DIRECTORY, database
from benchmarks.servers import ROOT, Server, production, service
from benchmarks.soak_members import Busy, Member, draw
from benchmarks.soak_mix import FEWEST, STEPS, create, stream_changes
from benchmarks.soak_samples import GROWING, Sample, sample
from benchmarks.tables import markdown, where

MEMBERS = 20
SENDER = "Soak <soak@example.org>"
PICTURES = 32  # different ones: the storage keeps a file for each, however often it is uploaded
SAMPLES = 8  # at least
IN_FLIGHT = 200
RISE = 0.02  # an hour, as a share


class Mailbox:
    def __init__(self) -> None:
        self.messages = 0

    async def handle_DATA(self, *_: object) -> str:  # noqa: N802 (aiosmtpd's name)
        self.messages += 1
        return "250 OK"


class Soak:
    def __init__(self, server: Server, dsn: str, data: Path, given: argparse.Namespace) -> None:
        self.server, self.dsn, self.data = server, dsn, data
        self.seconds, self.rate = given.minutes * 60, given.rate
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.took: list[float] = []  # seconds, of the steps since the last sample, without streams
        self.samples: list[Sample] = []

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=IN_FLIGHT, keepalive_expiry=30)
        url = f"http://127.0.0.1:{self.server.port}"
        pictures = [draw(number) for number in range(PICTURES)]
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            members = [Member(client, number, self.counts, pictures) for number in range(MEMBERS)]
            for member in members:
                await member.sign_up()
                for _ in range(FEWEST + 3):
                    await create(member)
            self.counts.clear()
            watch = asyncio.create_task(self._watch(client))
            keep = asyncio.create_task(self._keep_house())
            await self._send(members)
            await asyncio.gather(watch, keep)
            for member in members:
                await self._checked(member.compare())

    async def _send(self, members: Sequence[Member]) -> None:
        """Starts each step when it is due."""
        chance = random.Random(0)
        steps, shares = list(STEPS), list(STEPS.values())
        running: set[asyncio.Task[None]] = set()
        began = due = time.monotonic()
        while due < began + self.seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            (step,) = chance.choices(steps, shares)
            started = step(chance.choice(members))
            task = asyncio.create_task(self._checked(started) if step is stream_changes else self._timed(started, due))
            running.add(task)
            task.add_done_callback(running.discard)
            due += chance.expovariate(self.rate)
        await asyncio.gather(*running)

    async def _timed(self, step: Awaitable[None], due: float) -> None:
        await self._checked(step)
        self.took.append(time.monotonic() - due)

    async def _checked(self, step: Awaitable[None]) -> None:
        try:
            await step
        except Busy:
            self.counts["not sent"] += 1
        except Exception as error:  # whatever is wrong with an answer
            self.wrong.append(f"{type(error).__name__}: {error}")
            print("wrong:", self.wrong[-1][:1000], flush=True)

    async def _watch(self, client: httpx.AsyncClient) -> None:
        every = min(60.0, self.seconds / SAMPLES)
        began = time.monotonic()
        for number in range(round(self.seconds / every)):
            await asyncio.sleep(max(0.0, began + (number + 1) * every - time.monotonic()))
            took, self.took = sorted(self.took) or [0.0], []
            taken = await sample(client, self.server.process.pid, self.dsn, self.data)
            self.samples.append(taken)
            figures = ", ".join(f"{name} {value:.1f}" for name, value in taken.items())
            late = f"median {took[len(took) // 2] * 1000:.0f} ms, p99 {took[int(len(took) * 0.99)] * 1000:.0f} ms"
            total = f"{self.counts['requests']} requests, {self.counts['503']} busy, {len(self.wrong)} wrong, {late}"
            print(f"{(time.monotonic() - began) / 60:5.1f} min: {total}; {figures}", flush=True)

    async def _keep_house(self) -> None:
        """Runs the daily commands four times."""
        for _ in range(4):
            await asyncio.sleep(self.seconds / 5)
            for command in ("purge", "collect_files"):
                await self._checked(asyncio.to_thread(self._piccolo, command))

    def _piccolo(self, command: str) -> None:
        program = [str(Path(sys.executable).with_name("piccolo")), "service", command]
        environment = production(self.dsn, self.data.parent)
        done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")


def summary(samples: Sequence[Sample], seconds: float) -> str:
    """The means of the first and the last quarter, the rise in an hour after the first, and whether that is flat."""
    quarter = max(1, len(samples) // 4)
    hours = [seconds * number / len(samples) / 3600 for number in range(len(samples))]
    rows = []
    for name in samples[-1]:
        values = [each.get(name, 0.0) for each in samples]
        first, last = mean(values[:quarter]), mean(values[-quarter:])
        rise = linear_regression(hours[quarter:], values[quarter:]).slope
        flat = "flat" if rise <= max(1.0, RISE * last) else "grows"
        cells = [f"{each:,.1f}" for each in (first, last, max(values))]
        rows.append([name, *cells, f"{rise:+,.1f}", "grows by design" if name in GROWING else flat])
    return markdown(["", "first quarter", "last quarter", "at most", "an hour", ""], rows)


def main() -> None:
    given = _arguments()
    given.data_dir.mkdir(parents=True, exist_ok=True)
    with (
        receiving_mail() as mailbox,
        database(given.characters, given.users, given.data_dir) as dsn,
        service(dsn, given.data_dir, core=(), workers=given.workers) as ours,
    ):
        soak = Soak(ours, dsn, given.data_dir / "data", given)
        asyncio.run(soak.run())
    answers = f"{soak.counts['requests']:,} requests, {soak.counts['503']} busy, {len(soak.wrong)} wrong"
    load = f"{given.workers} workers, {given.minutes:g} minutes, {given.rate:g} steps a second"
    print(f"\n{where()}; {load}: {answers}; {mailbox.messages:,} e-mails.\n")
    print(summary(soak.samples, soak.seconds))
    if soak.wrong:
        sys.exit("\n".join(soak.wrong[:20]))


@contextmanager
def receiving_mail() -> Iterator[Mailbox]:
    """A mail server, which the service is told of by its environment."""
    mailbox = Mailbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = Controller(mailbox, hostname="127.0.0.1", port=port)
    os.environ |= {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port), "SMTP_TLS": "none", "MAIL_FROM": SENDER}
    server.start()
    try:
        yield mailbox
    finally:
        server.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=20, help="steps a second; most are one request")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--characters", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=1_000)
    parser.add_argument("--data-dir", type=Path, default=DIRECTORY)
    return parser.parse_args()


if __name__ == "__main__":
    main()
