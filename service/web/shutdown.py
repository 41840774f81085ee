"""Tells when the process is asked to end. The server waits for open responses before it ends the application's
lifespan, so endless responses must end earlier, at the signal."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_signal(end: Callable[[], None]) -> Iterator[None]:
    """For the block, calls ``end`` in this event loop at SIGINT and SIGTERM, before the server's own handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    current = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    replaced = {number: handler for number, handler in current.items() if callable(handler)}

    def handle(number: int, frame: Any) -> None:
        loop.call_soon_threadsafe(end)
        replaced[signal.Signals(number)](number, frame)

    for number in replaced:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)
