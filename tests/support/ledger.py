"""A ledger of acknowledged writes: what clients were told while something failed, compared with what is there later."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.support.pictures import draw_picture

TIMEOUT = 12.0  # seconds; a client waits longer than the service, which answers 503 after 5 or 10

Content = tuple[int, str]  # the version and the description of a character
ABSENT = None


class Refused(Exception):
    """A request that was not acknowledged, and for which that is allowed."""


class StartAgain(Exception):
    """The feed refused a cursor, as it does after a failover."""


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
        if answer.status_code == 400 and "after" in given.get("params", {}):
            raise StartAgain
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
                pass
            await asyncio.sleep(0.5)

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
