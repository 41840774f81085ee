"""Argon2id, off the event loop: hashing takes tens of milliseconds of CPU."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from service.settings import settings

_hasher = PasswordHasher(
    time_cost=settings.password_iterations, memory_cost=settings.password_memory_kib, parallelism=1
)
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")  # bounds the memory, too
_NOBODYS = _hasher.hash("a password that opens nothing")


async def hash_password(password: str) -> str:
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)


async def password_matches(password_hash: str | None, password: str) -> bool:
    """Whether it does; takes as long when there is no account or no password to compare with."""
    matches = await asyncio.get_running_loop().run_in_executor(_threads, _verify, password_hash or _NOBODYS, password)
    return matches and password_hash is not None


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
