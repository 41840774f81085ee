"""The accounts of operators, for ``piccolo service operator``.

The audit log names no operator for these: whoever runs a command on the server is none.
"""

import re
from datetime import datetime
from typing import Any, NamedTuple

import asyncpg

from service.admin.operator_passwords import check_operators_password, hash_password
from service.admin.operators import Operator, OperatorSession
from service.admin.roles import ROLES, OperatorRole, Role, get_role, store_role
from service.admin.second_factors import SecondFactor
from service.audit.actions import Action
from service.audit.queries import record
from service.database.engine import DB

_NAME_LENGTH = Operator.username.length or 0
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


class Account(NamedTuple):
    username: str
    is_active: bool
    role: Role
    has_second_factor: bool
    last_sign_in: datetime | None  # in UTC, without a time zone, as Piccolo stores it


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


def read_role(name: str) -> Role:
    """Raises ValueError, whose text is a sentence."""
    for role in ROLES:
        if role == name:
            return role
    raise ValueError(f"The roles are {', '.join(ROLES[:-1])} and {ROLES[-1]}.")


async def create_operator(username: str, email: str, password: str, role: Role) -> None:
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
            await store_role(row["id"], role)
            await record(Action.CREATE_OPERATOR, "operator", row["id"], username=username, role=role)
    except asyncpg.UniqueViolationError:
        raise ValueError(f"There is an operator {username} already.") from None


async def set_password(username: str, password: str) -> None:
    """Ends the operator's sessions. Raises ValueError, whose text is a sentence."""
    operator = await Operator.select(Operator.id, Operator.email).where(Operator.username == username).first()
    if operator is None:
        raise _unknown(username)
    await check_operators_password(password, username, operator["email"])
    hashed = await hash_password(password)
    async with DB.transaction():
        await Operator.update({Operator.password: hashed}).where(Operator.id == operator["id"])
        await OperatorSession.delete().where(OperatorSession.user_id == operator["id"])
        await record(Action.CHANGE_PASSWORD, "operator", operator["id"], username=username)


async def set_role(username: str, role: Role) -> bool:
    """Counts from the operator's next request on. Returns False when nothing had to be changed. Raises ValueError."""
    async with DB.transaction():
        operator = await Operator.select(Operator.id).where(Operator.username == username).lock_rows("UPDATE").first()
        if operator is None:
            raise _unknown(username)
        former = await get_role(operator["id"])
        if former == role:
            return False
        await store_role(operator["id"], role)
        await record(Action.CHANGE_ROLE, "operator", operator["id"], username=username, former=former, role=role)
    return True


async def set_active(username: str, active: bool) -> bool:
    """Ends the operator's sessions. Returns False when nothing had to be changed. Raises ValueError."""
    async with DB.transaction():
        account = Operator.select(Operator.id, Operator.active, Operator.admin).where(Operator.username == username)
        operator = await account.lock_rows("UPDATE").first()
        if operator is None:
            raise _unknown(username)
        if (operator["active"] and operator["admin"]) == active:
            return False
        changes: dict[Any, Any] = {Operator.active: active} | ({Operator.admin: True} if active else {})
        await Operator.update(changes).where(Operator.id == operator["id"])
        await OperatorSession.delete().where(OperatorSession.user_id == operator["id"])
        await record(
            Action.ENABLE_OPERATOR if active else Action.DISABLE_OPERATOR, "operator", operator["id"], username=username
        )
    return True


async def list_operators() -> list[Account]:
    """By name."""
    rows = await Operator.select().order_by(Operator.username)
    roles = {row["user_id"]: row["role"] for row in await OperatorRole.select()}
    active = SecondFactor.select(SecondFactor.user_id).where(SecondFactor.active.eq(True))
    with_factor = {row["user_id"] for row in await active}
    return [
        Account(
            username=row["username"],
            is_active=row["active"] and row["admin"],
            role=roles.get(row["id"], "administrator"),
            has_second_factor=row["id"] in with_factor,
            last_sign_in=row["last_login"],
        )
        for row in rows
    ]


async def check_exists(username: str) -> None:
    """Raises ValueError, whose text is a sentence."""
    if not await Operator.exists().where(Operator.username == username):
        raise _unknown(username)


def _unknown(username: str) -> ValueError:
    return ValueError(f"There is no operator {username}.")
