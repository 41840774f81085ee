"""Clients at work on all instances while something fails, and what they find after it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx

from tests.support.feed import Reader
from tests.support.ledger import Content, Instances, Ledger, Refused, StartAgain
from tests.support.servers import member_of

WRITERS = 6
ENOUGH = 40  # acknowledged writes before a fault, and again after it
QUIET = 1.0  # seconds without a failure, after which the service has recovered
FEED_PATIENCE = 12.0  # seconds; above the time-outs of a transaction that nobody goes on with


class Result:
    """What clients saw. Times are in seconds."""

    def __init__(self, run: "Run", lasted: float, pause: float) -> None:
        self.outcomes: Counter[str] = run.instances.outcomes
        self.lasted = lasted
        self.longest_pause = pause  # between two acknowledged writes of an instance
        self.beginnings = run.follower.beginnings  # how often the feed was read from its beginning


async def keep_ledger(urls: Sequence[str], fault: Callable[[], Awaitable[None]], patience: float) -> Result:
    """Fails if an acknowledged write is lost or doubled, if an answer is neither 2xx nor 503, and if the service does
    not work again ``patience`` seconds after the fault."""
    async with member_of(urls[0], f"m{uuid4().hex[:12]}") as member:
        run = Run(urls, {"Authorization": member.headers["Authorization"]})
    async with run.at_work():
        await run.until_written(ENOUGH, patience)
        run.instances.longest_pause = 0.0
        began = time.monotonic()
        await fault()
        lasted = time.monotonic() - began
        await run.until_written(ENOUGH, patience)
        pause = run.instances.longest_pause
    return Result(run, lasted, pause)


class Follower:
    """Keeps a copy by the feed of changes all the time, from whichever instance answers."""

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self.reader = Reader(self)  # type: ignore[arg-type] # it is asked for pages only
        self.beginnings = 1
        self.turn = 0
        self.ended = False

    async def get(self, path: str, **given: Any) -> httpx.Response:
        return await self.instances.send(self.turn, "GET", path, **given)

    async def follow(self) -> None:
        while not self.ended:
            try:
                await self.reader.read_page()
            except Refused:
                self.turn += 1
            except StartAgain:
                self.start_again()
            await asyncio.sleep(0.05)

    def start_again(self) -> None:
        self.reader = Reader(self)  # type: ignore[arg-type]
        self.beginnings += 1

    async def has(self, states: dict[str, Content]) -> bool:
        """Whether the copy gets these states within some seconds: an open transaction holds the feed up."""
        until = time.monotonic() + FEED_PATIENCE
        while True:
            try:
                await self.reader.read()
            except StartAgain:
                self.start_again()
            copy = {item["name"]: (item["version"], item["description"]) for item in self.reader.copy.values()}
            if copy == states or time.monotonic() > until:
                return copy == states
            await asyncio.sleep(0.1)


class Run:
    """Writers, a reader and a follower at work, for a user of their own."""

    def __init__(self, urls: Sequence[str], headers: dict[str, str]) -> None:
        self.instances = Instances(urls, headers)
        self.ledger = Ledger(self.instances)
        self.follower = Follower(self.instances)
        self.tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        jobs = [self.ledger.write(number) for number in range(WRITERS)]
        jobs += [self.ledger.write_portraits()]
        async with AsyncExitStack() as stack:
            for client in self.instances.clients:
                await stack.enter_async_context(client)
            self.tasks = [asyncio.create_task(job) for job in (*jobs, self.ledger.read(), self.follower.follow())]
            try:
                yield
                self.ledger.ended = self.follower.ended = True
                await asyncio.gather(*self.tasks)
                await self.verify()
            finally:
                for task in self.tasks:
                    task.cancel()
                await asyncio.gather(*self.tasks, return_exceptions=True)

    async def until_written(self, more: int, patience: float) -> None:
        """Waits until all instances together have acknowledged ``more`` writes, and nothing has failed for a second."""
        instances, began, goal = self.instances, time.monotonic(), self.instances.outcomes["acknowledged"] + more
        async with asyncio.timeout(patience):
            while True:
                for task in self.tasks:
                    if task.done():
                        task.result()
                quiet = max(instances.failed, began) + QUIET < time.monotonic()
                if quiet and instances.outcomes["acknowledged"] >= goal and instances.all_acknowledged_since(began):
                    return
                await asyncio.sleep(0.02)

    async def verify(self) -> None:
        """Every acknowledged write is there, once; what was not acknowledged is there as a whole or not at all; and the
        feed tells the same, to who followed it as to who reads it for the first time."""
        found = await self._list()
        times = Counter(item["name"] for item in found)
        assert not [name for name, count in times.items() if count > 1], "written twice"
        states = {item["name"]: (item["version"], item["description"]) for item in found}
        wrong = {
            name: (states.get(name), allowed)
            for name, allowed in self.ledger.allowed.items()
            if states.get(name) not in allowed
        }
        assert not wrong, f"lost, or other than acknowledged: {wrong}"
        assert set(states) <= set(self.ledger.allowed)
        assert not [pair for pair in self.ledger.pairs if len(set(pair) & set(states)) == 1], "half a bulk request"
        for follower in (self.follower, Follower(self.instances)):
            assert await follower.has(states), "the feed tells something else"
        await self._verify_the_rest(found)

    async def _verify_the_rest(self, found: list[Any]) -> None:
        """What belongs to a character: its revisions, the file of its portrait, and how much its owner uses."""
        with_portrait = [item for item in found if item["portrait"]]
        assert self.ledger.portraits <= {item["name"] for item in with_portrait}
        for item in with_portrait:
            answer = await self.instances.send(0, "GET", item["portrait"]["url"])
            assert answer.headers["Content-Type"].startswith("image/")
        for item in found[-20:]:
            revisions = await self.instances.send(0, "GET", f"/v1/characters/{item['id']}/revisions")
            numbers = sorted(each["number"] for each in revisions.json()["items"])
            assert numbers == list(range(1, item["version"] + 1))
        trash = await self._list("/v1/trash")
        usage = (await self.instances.send(0, "GET", "/v1/users/me/usage")).json()
        assert usage["characters"]["used"] == len(found) + len(trash)

    async def _list(self, path: str = "/v1/characters") -> list[Any]:
        items: list[Any] = []
        own = {"owner": "me", "fields": "id,version,name,description,portrait"}
        parameters: dict[str, Any] = {"limit": 100} | (own if path == "/v1/characters" else {})
        while True:
            page = (await self.instances.send(0, "GET", path, params=parameters)).json()
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            parameters["cursor"] = page["next_cursor"]
