"""The accounts of operators, for ``piccolo service operator``.

The audit log names no operator for these: whoever runs a command on the server is none.
"""

import re
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from service.admin.operator_passwords import check_operators_password, hash_password
from service.admin.operators import Operator, OperatorSession
from service.admin.second_factors import SecondFactor
from service.audit.queries import record
from service.database.engine import DB
from service.errors import NotFound

_NAME_LENGTH = Operator.username.length or 0
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class Account(NamedTuple):
    username: str
    is_active: bool
    has_second_factor: bool
    last_sign_in: datetime | None  # in the time zone of the server, as Piccolo stores it


async def check_is_free(username: str, email: str) -> None:
    """Raises ValueError, whose text is a sentence, unless an operator can have this name and e-mail address."""
    if not 0 < len(username) <= _NAME_LENGTH or not username.isprintable() or username != username.strip():
        raise ValueError(
            f"An operator's name has 1 to {_NAME_LENGTH} printable characters, without spaces at its ends."
        )
    if email and not (_EMAIL.fullmatch(email) and len(email) <= (Operator.email.length or 0)):
        raise ValueError(f"{email} is no e-mail address.")
    if await Operator.exists().where(Operator.username == username):
        raise ValueError(f"There is an operator {username} already.")
    if await Operator.exists().where(Operator.email == (email or username)):
        raise ValueError(f"Another operator has the e-mail address {email or username}.")


async def create_operator(username: str, email: str, password: str) -> None:
    """Raises ValueError, whose text is a sentence. Without ``email``, the name takes its place: Piccolo wants a value
    that no other operator has."""
    await check_is_free(username, email)
    await check_operators_password(password, username, email)
    operator = Operator(
        username=username, email=email or username, password=await hash_password(password), active=True, admin=True
    )
    try:
        async with DB.transaction():
            [row] = await Operator.insert(operator)
            await record("create", "operator", row["id"], username=username)
    except asyncpg.UniqueViolationError:
        raise ValueError(f"There is an operator {username} already.") from None


async def set_password(username: str, password: str) -> None:
    """Ends the operator's sessions. Raises NotFound, and ValueError, whose text is a sentence."""
    operator = await Operator.select(Operator.id, Operator.email).where(Operator.username == username).first()
    if operator is None:
        raise NotFound
    await check_operators_password(password, username, operator["email"])
    hashed = await hash_password(password)
    async with DB.transaction():
        await Operator.update({Operator.password: hashed}).where(Operator.id == operator["id"])
        await OperatorSession.delete().where(OperatorSession.user_id == operator["id"])
        await record("change_password", "operator", operator["id"], username=username)


async def set_active(username: str, active: bool) -> bool:
    """Ends the operator's sessions. Returns False when nothing had to be changed. Raises NotFound."""
    async with DB.transaction():
        account = Operator.select(Operator.id, Operator.active, Operator.admin).where(Operator.username == username)
        operator = await account.lock_rows("UPDATE").first()
        if operator is None:
            raise NotFound
        if (operator["active"] and operator["admin"]) == active:
            return False
        changes: dict[Any, Any] = {Operator.active: active} | ({Operator.admin: True} if active else {})
        await Operator.update(changes).where(Operator.id == operator["id"])
        await OperatorSession.delete().where(OperatorSession.user_id == operator["id"])
        await record("enable" if active else "disable", "operator", operator["id"], username=username)
    return True


async def list_operators() -> list[Account]:
    """By name."""
    rows = await Operator.select().order_by(Operator.username)
    with_factor = {row["user_id"] for row in await SecondFactor.select(SecondFactor.user_id)}
    return [
        Account(row["username"], row["active"] and row["admin"], row["id"] in with_factor, row["last_login"])
        for row in rows
    ]


async def find_operator(username: str) -> bool:
    return await Operator.exists().where(Operator.username == username)
