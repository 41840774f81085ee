"""A ledger of acknowledged writes: what clients were told while something failed, compared with what is there later."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from tests.support.feed import Reader
from tests.support.pictures import draw_picture

WRITERS = 6
FEED_PATIENCE = 12.0  # seconds; above the time-outs of a transaction that nobody goes on with
QUIET = 1.0  # seconds without a failure, after which the service has recovered
TIMEOUT = 12.0  # seconds; a client waits longer than the service, which answers 503 after 5 or 10

Content = tuple[int, str]  # the version and the description of a character
ABSENT = None


class Refused(Exception):
    """A request that was not acknowledged, and for which that is allowed."""


class Instances:
    """The instances, each of which a client may ask, and what they answered."""

    def __init__(self, urls: Sequence[str], headers: dict[str, str]) -> None:
        self.clients = [httpx.AsyncClient(base_url=url, headers=headers, timeout=TIMEOUT) for url in urls]
        self.acknowledged = [time.monotonic() for _ in urls]  # when each instance acknowledged its last write
        self.longest_pause = 0.0  # seconds between two acknowledged writes of an instance
        self.failed = 0.0  # when a request failed
        self.outcomes: Counter[str] = Counter()  # how many requests had each

    async def send(self, turn: int, method: str, path: str, **given: Any) -> httpx.Response:
        """The response of 2xx. Raises Refused after a 503, and after a broken connection."""
        number = turn % len(self.clients)
        try:
            answer = await self.clients[number].request(method, path, **given)
        except httpx.TransportError as error:
            raise self._failure("broken") from error
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1
            raise self._failure("503")
        if answer.status_code == 409 and "still running" in answer.text:  # this client has given the first one up
            raise self._failure("409")
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        if method != "GET":
            self.outcomes["acknowledged"] += 1
            now = time.monotonic()
            self.longest_pause = max(self.longest_pause, now - self.acknowledged[number])
            self.acknowledged[number] = now
        return answer

    def all_acknowledged_since(self, moment: float) -> bool:
        return min(self.acknowledged) > moment

    def _failure(self, outcome: str) -> Refused:
        self.outcomes[outcome] += 1
        self.failed = time.monotonic()
        return Refused()


class Ledger:
    """``allowed`` has, for each name that a writer used, the states in which its character may be."""

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self.allowed: dict[str, set[Content | None]] = {}
        self.pairs: list[tuple[str, str]] = []  # of which both are there or none
        self.portraits: set[str] = set()  # the names of the characters that have one
        self.ended = False

    async def write(self, writer: int) -> None:
        names = (f"{writer}/{number}" for number in itertools.count())
        for turn in itertools.count(writer):
            if self.ended:
                return
            try:
                await self._write_four(turn, names)
            except Refused:
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.03)

    async def _write_four(self, turn: int, names: Iterator[str]) -> None:
        name = next(names)
        character = await self._create(turn, name)
        url = f"/v1/characters/{character['id']}"
        async with self._attempt(name, (2, name)):
            await self.instances.send(turn, "PATCH", url, json={"description": name})
        async with self._attempt(name, ABSENT) if turn % 3 == 0 else self._attempt(name, (3, "")):
            if turn % 3 == 0:
                await self.instances.send(turn, "DELETE", url)
            else:
                await self.instances.send(turn, "PATCH", url, json={"description": ""})
        pair = next(names), next(names)
        self.pairs.append(pair)
        create = [{"action": "create", "body": {"name": each}} for each in pair]
        async with self._attempt(pair[0], (1, "")), self._attempt(pair[1], (1, "")):
            body = {"operations": create, "atomic": True}
            outcomes = (await self.instances.send(turn, "POST", "/v1/characters/bulk", json=body)).json()["items"]
            if any(each["status"] != 201 for each in outcomes):
                assert {each["status"] for each in outcomes} == {503, 424}, outcomes
                raise Refused

    async def write_portraits(self) -> None:
        for turn in itertools.count():
            if self.ended:
                return
            try:
                character = await self._create(turn, name := f"portrait/{turn}")
                url, picture = f"/v1/characters/{character['id']}/portrait", draw_picture(width=40 + turn % 400)
                async with self._attempt(name, (2, "")):
                    await self.instances.send(turn, "PUT", url, content=picture, headers={"Content-Type": "image/png"})
                self.portraits.add(name)
            except Refused:
                await asyncio.sleep(0.1)

    async def _create(self, turn: int, name: str) -> Any:
        """Repeated with its Idempotency-Key until it is acknowledged, by the instances in turn."""
        self.allowed[name] = {ABSENT, (1, "")}
        for attempt in itertools.count(turn):
            if self.ended:
                raise Refused
            try:
                headers = {"Idempotency-Key": name}
                answer = await self.instances.send(
                    attempt, "POST", "/v1/characters", json={"name": name}, headers=headers
                )
                self.allowed[name] = {(1, "")}
                return answer.json()
            except Refused:
                await asyncio.sleep(0.1)
        raise AssertionError

    @asynccontextmanager
    async def _attempt(self, name: str, after: Content | None) -> AsyncIterator[None]:
        """In the block, the character gets this state. If that was not acknowledged, it may be in either."""
        self.allowed.setdefault(name, {ABSENT}).add(after)
        yield
        self.allowed[name] = {after}

    async def read(self) -> None:
        """Reads one character after the other: a read may be refused as a write may."""
        for turn in itertools.count():
            if self.ended:
                return
            try:
                await self.instances.send(turn, "GET", "/v1/characters", params={"limit": 1})
                self.instances.outcomes["read"] += 1
            except Refused:
                pass
            await asyncio.sleep(0.1)


class Follower:
    """Keeps a copy by the feed of changes all the time, from whichever instance answers."""

    def __init__(self, instances: Instances) -> None:
        self.instances = instances
        self.reader = Reader(self)  # type: ignore[arg-type] # it is asked for pages only
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
            await asyncio.sleep(0.05)

    async def has(self, states: dict[str, Content]) -> bool:
        """Whether the copy gets these states within some seconds: an open transaction holds the feed up."""
        until = time.monotonic() + FEED_PATIENCE
        while True:
            await self.reader.read()
            copy = {item["name"]: (item["version"], item["description"]) for item in self.reader.copy.values()}
            if copy == states or time.monotonic() > until:
                return copy == states
            await asyncio.sleep(0.1)


class Run:
    """Writers, a reader and a follower at work."""

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
