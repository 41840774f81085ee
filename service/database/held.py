"""Checks that no slow work runs while a database connection is held. A worker has few connections, and an open
transaction keeps its locks."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class ConnectionHeld(RuntimeError):
    """Slow work, or the use of a second connection, was begun while a connection is held. A fault of the service."""


class Hold:
    """The use of one connection. Tasks that it starts share it until it ends."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False


HOLD: ContextVar[Hold | None] = ContextVar("hold", default=None)


def check_no_connection(work: str) -> None:
    """Raises ConnectionHeld if the running task, or the one that started it, holds a connection."""
    if (hold := HOLD.get()) is not None and not hold.ended:
        raise ConnectionHeld(f"{work} must not run while a database connection is held.")


@contextmanager
def slow_work_allowed() -> Iterator[None]:
    """Lifts the check for the block. Only for commands, which have a connection of their own."""
    token = HOLD.set(None)
    try:
        yield
    finally:
        HOLD.reset(token)
