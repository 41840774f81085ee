"""Operators' passwords: the rules of members' passwords, as far as Piccolo can store them, and Piccolo's hash."""

import asyncio

from piccolo.apps.user.tables import BaseUser

from service.database.held import check_no_connection
from service.errors import Unprocessable
from service.users.passwords import check_password
from service.users.schemas import PASSWORD_LENGTH

_LONGEST = BaseUser._max_password_length


async def check_operators_password(password: str, username: str, email: str) -> None:
    """Raises ValueError, whose text is a sentence."""
    if not PASSWORD_LENGTH <= len(password) <= _LONGEST:
        raise ValueError(f"The password must have {PASSWORD_LENGTH} to {_LONGEST} characters.")
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in password):
        raise ValueError("The password has a character that is not allowed.")
    if password.startswith("pbkdf2_sha256"):
        raise ValueError("The password must not be a hash.")  # Piccolo would store it as one
    try:
        await check_password(password, {username, email}, "")
    except Unprocessable as error:
        [violation] = error.errors
        raise ValueError(f"The password {violation.detail[0].lower()}{violation.detail[1:]}") from None


async def hash_password(password: str, salt: str = "", iterations: int | None = None) -> str:
    check_no_connection("Hashing a password")
    return await asyncio.to_thread(BaseUser.hash_password, password, salt, iterations)
