"""``piccolo service operator create|password|role|disable|enable|list``: the operators of the admin site."""

import asyncio
import sys
from collections.abc import Coroutine
from getpass import getpass
from typing import Any, TypeVar

from service.admin import operator_accounts as accounts
from service.admin.roles import Role

_T = TypeVar("_T")
_COMMAND = "piccolo service operator"
_ACTIONS = "create|password|role|disable|enable|list"


def operator(action: str = "", username: str = "", email: str = "", role: str = "") -> None:
    """
    Create, change and list the operators of the admin site: "piccolo service operator create --username=NAME".

    The password is asked for at a terminal, and is read from standard input otherwise. A terminal is also asked for an
    e-mail address that create lacks.

    :param action:
        create, password (sets a new one), role (sets another), disable (the operator is signed out and cannot sign in),
        enable, or list.
    :param username:
        The operator, for all but list.
    :param email:
        For create: the operator's e-mail address, if there is one.
    :param role:
        For create and role: reader (looks only), moderator (also uses the forms of moderation) or administrator, which
        is the default of create.

    """
    # Not a coroutine: Ctrl-C would not end one that waits for the terminal
    match action:
        case "list":
            _print_table(_run(accounts.list_operators()))
        case "create" | "password" | "role" | "disable" | "enable":
            if not username or not isinstance(username, str):  # `--username` without a value is True
                raise SystemExit(f"Give a name: {_COMMAND} {action} --username=NAME")
            _change(action, username, email if isinstance(email, str) else "", str(role))
        case _:
            raise SystemExit(f"Say what to do: {_COMMAND} {_ACTIONS}")


def _change(action: str, username: str, email: str, role: str) -> None:
    match action:
        case "create":
            chosen = _read_role(role or "administrator")
            email = email or _read_email()
            _run(accounts.check_is_free(username, email))
            _run(accounts.create_operator(username, email, _read_password(), chosen))
            print(f"The {chosen} {username} is created.")
        case "password":
            _run(accounts.check_exists(username))
            _run(accounts.set_password(username, _read_password()))
            print(f"The password of {username} is changed.")
        case "role":
            chosen = _read_role(role)
            changed = _run(accounts.set_role(username, chosen))
            print(f"The role of {username} is {chosen}{'' if changed else ' already'}.")
        case _:
            changed = _run(accounts.set_active(username, action == "enable"))
            print(f"The operator {username} is {action}d{'' if changed else ' already'}.")


def _run(work: Coroutine[Any, Any, _T]) -> _T:
    try:
        return asyncio.run(work)
    except ValueError as error:
        raise SystemExit(str(error)) from None


def _read_role(name: str) -> Role:
    try:
        return accounts.read_role(name)
    except ValueError as error:
        raise SystemExit(str(error)) from None


def _read_email() -> str:
    return input("E-mail address, or nothing: ").strip() if sys.stdin.isatty() else ""


def _read_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass("Password: ")
    if getpass("Once more: ") != password:
        raise SystemExit("The two passwords differ: nothing was changed.")
    return password


def _print_table(operators: list[accounts.Account]) -> None:
    rows = [("username", "state", "role", "second factor", "last sign-in")]
    rows += [
        (
            each.username,
            "active" if each.is_active else "disabled",
            each.role,
            "yes" if each.has_second_factor else "no",
            f"{each.last_sign_in:%Y-%m-%d %H:%M:%S} UTC" if each.last_sign_in else "never",
        )
        for each in operators
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
