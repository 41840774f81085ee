"""Slow work: callers are served in rotation, and a bounded number may wait."""

import asyncio
from contextvars import Context
from typing import Any

import pytest

from service.database.shares import ON_BEHALF_OF
from service.errors import Unavailable
from service.limits import turns
from service.limits.turns import CLIENT, Turns


class Work:
    """Work of several callers, and the order in which it was begun."""

    def __init__(self, at_once: int = 1, waiting: int = 20, of_caller: int = 9) -> None:
        self.turns = Turns(at_once, waiting=waiting, waiting_of_caller=of_caller, refusal="Too many.")
        self.begun: list[str] = []
        self.go_on = asyncio.Event()

    def start(self, names: str) -> list["asyncio.Task[None]"]:
        """A task for each name; its caller is the first letter."""
        return [asyncio.create_task(self._do(name), context=context_of(name[0])) for name in names.split()]

    async def _do(self, name: str) -> None:
        async with self.turns.turn():
            self.begun.append(name)
            await self.go_on.wait()


def context_of(caller: str) -> Context:
    context = Context()
    context.run(ON_BEHALF_OF.set, caller)
    return context


async def outcomes(tasks: list[Any]) -> list[str]:
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 2)
    return ["done" if result is None else type(result).__name__ for result in results]


class Other:
    """A client at an address."""

    def __init__(self, address: str, *, gone: bool) -> None:
        self.address = address
        self.gone = gone

    def has_left(self) -> bool:
        return self.gone


async def test_addresses_are_served_in_rotation_and_the_callers_of_each() -> None:
    work = Work()
    tasks = work.start("a1")
    await asyncio.sleep(0)
    for caller, names in {"b": "b1 b2", "c": "c1 c2"}.items():  # accounts of one address
        for name in names.split():
            context = context_of(caller)
            context.run(CLIENT.set, Other("192.0.2.1", gone=False))
            tasks.append(asyncio.create_task(work._do(name), context=context))
    other = context_of("d")
    other.run(CLIENT.set, Other("192.0.2.2", gone=False))
    tasks.append(asyncio.create_task(work._do("d1"), context=other))
    await asyncio.sleep(0)
    work.go_on.set()
    assert await outcomes(tasks) == ["done"] * 6
    assert work.begun == ["a1", "b1", "d1", "c1", "b2", "c2"]


async def test_callers_are_served_in_rotation() -> None:
    work = Work()
    tasks = work.start("a1 a2 a3 a4 b1 b2 c1")
    await asyncio.sleep(0)
    assert work.begun == ["a1"]
    work.go_on.set()
    assert await outcomes(tasks) == ["done"] * 7
    assert work.begun == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_several_at_once() -> None:
    work = Work(at_once=2)
    tasks = work.start("a1 a2 a3 b1")
    await asyncio.sleep(0)
    assert work.begun == ["a1", "a2"]
    work.go_on.set()
    assert await outcomes(tasks) == ["done"] * 4
    assert work.turns._free == 2


async def test_who_has_left_takes_no_turn() -> None:
    """A client that closes its connection does not end its request: that would wait, and work, for nobody."""
    work = Work()
    work.start("a1")
    await asyncio.sleep(0)
    gone = context_of("b")
    gone.run(CLIENT.set, Other("192.0.2.1", gone=True))
    second = asyncio.create_task(work._do("b1"), context=gone)
    third = work.start("b2")[0]
    await asyncio.sleep(0)
    work.go_on.set()
    assert await outcomes([second, third]) == ["Unavailable", "done"]
    assert (work.begun, work.turns._free) == (["a1", "b2"], 1)


async def test_a_bounded_number_waits_of_each_caller_and_of_all() -> None:
    work = Work(waiting=6, of_caller=2)  # three of an address
    tasks = work.start("a1 a2 a3 a4 b1 b2")
    await asyncio.sleep(0)
    work.go_on.set()
    assert await outcomes(tasks) == ["done", "done", "done", "Unavailable", "done", "Unavailable"]
    with pytest.raises(Unavailable, match=r"Too many\."):
        await Work(waiting=0).turns._wait("192.0.2.1", "a")


async def test_an_address_that_waits_for_nothing_finds_a_place() -> None:
    """Others cannot take all places, and yet a bounded number waits."""
    work = Work(waiting=4)
    tasks = work.start("x0")
    for number in (1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7):  # two of an address may wait
        context = context_of(f"user {number}")
        context.run(CLIENT.set, Other(f"192.0.2.{number}", gone=False))
        tasks.append(asyncio.create_task(work._do(str(number)), context=context))
    await asyncio.sleep(0)
    work.go_on.set()
    refused = ["Unavailable"]
    expected = [*["done"] * 3, *refused, *["done"] * 3, *refused, *["done"] * 3, *refused]
    assert await outcomes(tasks) == expected
    assert (work.turns._waiting, work.turns._free) == ({}, 1)


@pytest.mark.parametrize("at_the_same_moment", [False, True])
async def test_who_leaves_the_line_takes_no_turn(at_the_same_moment: bool) -> None:
    work = Work()
    first, second, third = work.start("a1 b1 b2")
    await asyncio.sleep(0)
    if at_the_same_moment:  # the first is done, and the second has its turn, but has not run yet
        first.cancel()
        await asyncio.sleep(0)
        assert first.done()
    second.cancel()
    work.go_on.set()
    assert await outcomes([first, second, third]) == [
        "CancelledError" if at_the_same_moment else "done", "CancelledError", "done"
    ]  # fmt: skip
    assert "b1" not in work.begun
    assert (work.turns._waiting, work.turns._free) == ({}, 1)


async def test_a_turn_passes_over_those_that_are_leaving() -> None:
    """A task that is cancelled notices it only when it runs next."""
    work = Work()
    first, second, third, fourth = work.start("a1 b1 b2 c1")
    await asyncio.sleep(0)
    work.go_on.set()
    await asyncio.sleep(0)  # the first goes on next
    second.cancel()
    fourth.cancel()
    assert await outcomes([first, second, third, fourth]) == ["done", "CancelledError", "done", "CancelledError"]
    assert work.begun == ["a1", "b2"]
    assert (work.turns._waiting, work.turns._free) == ({}, 1)


async def test_who_has_waited_long_enough_leaves_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.01)
    work = Work()
    async with work.turns.turn():
        with pytest.raises(Unavailable, match=r"Too many\."):
            async with asyncio.timeout(2), work.turns.turn():
                pass
    assert (work.turns._waiting, work.turns._free) == ({}, 1)
