"""Budgets of bytes: what a worker buffers for slow clients, in all, for each address and for each user."""

import ctypes
from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from service.errors import Overloaded
from service.limits.rate_limits import address_of

LARGE_BLOCK = 256 * 1024
_M_MMAP_THRESHOLD = -3  # of malloc.h
PIECE = 64 * 1024  # bytes of a response that are sent at once


Clients = tuple[Hashable, ...]  # who counts for some bytes: an address, a user, or both


class Budget:
    def __init__(self, most: int, most_of_client: int) -> None:
        self.most = most
        self.most_of_client = most_of_client
        self.used = 0
        self._of_client: Counter[Hashable] = Counter()

    def fits(self, clients: Clients, size: int) -> bool:
        """Whether ``size`` bytes are within the budget. A size above the whole budget is, when nothing else is used."""
        of_client = max(self._of_client[client] for client in clients)
        return not (
            (of_client and of_client + size > self.most_of_client) or (self.used and self.used + size > self.most)
        )

    def take(self, clients: Clients, size: int) -> bool:
        """Like ``fits``; if so, the bytes are used until they are given back."""
        if not size:
            return True
        if not self.fits(clients, size):
            return False
        self.used += size
        for client in clients:
            self._of_client[client] += size
        return True

    @contextmanager
    def used_by(self, clients: Clients, size: int) -> Iterator[None]:
        """Uses ``size`` bytes for the block. Raises Overloaded when they are not within the budget."""
        if not self.take(clients, size):
            raise Overloaded("Too many large responses are being sent.")
        try:
            yield
        finally:
            self.give_back(clients, size)

    def give_back(self, clients: Clients, size: int) -> None:
        if not size:
            return
        self.used -= size
        for client in clients:
            self._of_client[client] -= size
            if not self._of_client[client]:
                del self._of_client[client]


def return_freed_memory() -> None:
    """Makes glibc give blocks of LARGE_BLOCK bytes back to the system when they are freed. By default it begins to keep
    them, for each thread, once it has seen some."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def clients_of(scope: Any) -> Clients:
    """The address, and the user if the request has a valid token."""
    user = getattr(scope.get("user"), "id", None)
    return (address_of(scope),) if user is None else (address_of(scope), user)


RESPONSES_IN_MEMORY = Budget(32 * 1024**2, 8 * 1024**2)
RESPONSES_ON_DISK = Budget(4 * 1024**3, 512 * 1024**2)
UPLOADS_IN_MEMORY = Budget(64 * 1024**2, 32 * 1024**2)
UPLOADS_ON_DISK = Budget(1024**3, 256 * 1024**2)
