"""Budgets of bytes: what a worker buffers for slow clients, in all and for each address."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from service.errors import Overloaded
from service.limits.rate_limits import network_of

LARGE_BLOCK = 256 * 1024
_M_MMAP_THRESHOLD = -3  # of malloc.h
PIECE = 64 * 1024  # bytes of a response that are sent at once


class Budget:
    def __init__(self, most: int, most_of_address: int) -> None:
        self.most = most
        self.most_of_address = most_of_address
        self.used = 0
        self._of_address: dict[str, int] = {}

    def fits(self, address: str, size: int) -> bool:
        """Whether ``size`` bytes are within the budget. A size above the whole budget is, when nothing else is used."""
        of_address = self._of_address.get(address, 0)
        return not (
            (of_address and of_address + size > self.most_of_address) or (self.used and self.used + size > self.most)
        )

    def take(self, address: str, size: int) -> bool:
        """Like ``fits``; if so, the bytes are used until they are given back."""
        if not size:
            return True
        if not self.fits(address, size):
            return False
        self.used += size
        self._of_address[address] = self._of_address.get(address, 0) + size
        return True

    @contextmanager
    def used_by(self, address: str, size: int) -> Iterator[None]:
        """Uses ``size`` bytes for the block. Raises Overloaded when they are not within the budget."""
        if not self.take(address, size):
            raise Overloaded("Too many large responses are being sent.")
        try:
            yield
        finally:
            self.give_back(address, size)

    def give_back(self, address: str, size: int) -> None:
        if not size:
            return
        self.used -= size
        left = self._of_address[address] - size
        if left:
            self._of_address[address] = left
        else:
            del self._of_address[address]


def return_freed_memory() -> None:
    """Makes glibc give blocks of LARGE_BLOCK bytes back to the system when they are freed. By default it begins to keep
    them, for each thread, once it has seen some."""
    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)


def address_of(scope: Any) -> str:
    """Whom a budget counts: the client's address, or its network in IPv6."""
    return network_of(scope["client"][0]) if scope.get("client") else "-"


RESPONSES_IN_MEMORY = Budget(32 * 1024**2, 8 * 1024**2)
RESPONSES_ON_DISK = Budget(4 * 1024**3, 512 * 1024**2)
UPLOADS_IN_MEMORY = Budget(64 * 1024**2, 32 * 1024**2)
UPLOADS_ON_DISK = Budget(1024**3, 256 * 1024**2)
