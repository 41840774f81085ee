"""The tables of the admin site: what a list shows, and by what it is filtered.

All are read-only: the forms change rows, as the API's rules demand.
"""

import re
from collections.abc import Mapping
from enum import Enum, EnumMeta
from typing import Any, Literal, get_args
from uuid import UUID

import asyncpg
from piccolo.columns import JSON, Column
from piccolo.columns.choices import Choice
from piccolo.table import Table
from piccolo_admin.endpoints import TableConfig
from piccolo_api.crud.endpoints import OrderBy, PiccoloCRUD
from piccolo_api.crud.validators import Validators
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.admin.additions import api_of
from service.admin.operators import Operator, OperatorSession
from service.admin.roles import OperatorRole
from service.admin.second_factors import SecondFactor
from service.audit.actions import Action
from service.audit.tables import AuditEntry
from service.auth.email_links import Purpose
from service.auth.tables import EmailToken, Token
from service.cards.formats.specs import Spec
from service.cards.tables import Card, CardAsset, CardDocument
from service.characters.tables import Character, Revision
from service.idempotency.tables import IdempotencyKey
from service.mail.outbox import Kind as MessageKind
from service.mail.tables import Message
from service.media.tables import StoredFile
from service.relationships.tables import Relationship
from service.schemas import Style, Visibility
from service.templates.tables import Template, TemplateVersion
from service.users.tables import ReservedUsername, User

_ID = re.compile("[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)


def refuse_bad_values(site: Any) -> None:
    """Piccolo Admin would answer 500 to a filter by a value that the column cannot have."""
    api = api_of(site)
    for error in (ValidationError, asyncpg.DataError):
        api.add_exception_handler(error, _refuse_value)


async def _refuse_value(request: Request, error: Exception) -> Response:
    names = sorted({name for key in request.query_params if not (name := _column_of(key)).startswith("__")})
    if isinstance(error, ValidationError):  # PostgreSQL does not say which column it is
        names = [str(fault["loc"][0]) for fault in error.errors() if fault["loc"]] or names
    return JSONResponse({"detail": f"The filter by {', '.join(names)} has a value that the column cannot have."}, 400)


def _column_of(key: str) -> str:
    """Of a parameter."""
    return key.rstrip("[]").removesuffix("__operator").removesuffix("__match")


def _check_query(piccolo_crud: PiccoloCRUD, request: Request) -> None:
    """Refuses what Piccolo Admin would answer with status 500, the order by a secret column, which it would use, and
    values for which it would find no row."""
    columns = {column._meta.name: column for column in piccolo_crud.table._meta.columns}
    for key, value in request.query_params.multi_items():
        if key.rstrip("[]") == "__order":
            for name in value.split(","):
                if name.removeprefix("-") not in piccolo_crud.visible_fields_options:
                    raise HTTPException(400, f"Rows cannot be sorted by {name}.")
        column = columns.get(name := _column_of(key))
        if isinstance(column, JSON):
            raise HTTPException(400, f"Rows cannot be filtered by {name}.")
        if column is not None and key.rstrip("[]") == name and value not in ("", "null"):
            _check_value(column, value)


def _check_value(column: Column, value: str) -> None:
    name, choices = column._meta.name, column._meta.choices
    if isinstance(choices, EnumMeta):
        known = [each.value.value for each in choices]
        if value not in known:
            raise HTTPException(400, f"The filter by {name} is {value!r}, but must be one of {', '.join(known)}.")
    is_id = column.value_type is UUID or column is AuditEntry.row
    if is_id and not (_ID.fullmatch(value) or (column is AuditEntry.row and value.isdigit())):
        raise HTTPException(400, f"The filter by {name} is {value!r}, but must be an id.")


def _table(
    table: type[Table], group: str, columns: str, filters: str, newest_by: str = "id", **choices: Mapping[str, str]
) -> TableConfig:
    """``columns`` are the names of those that a list shows; the first is the link to a row. ``filters`` are the names
    of those that it is filtered by, as a choice with ``choices``: the labels of the column's values."""

    def named(names: str) -> list[Column]:
        return [table._meta.get_column_by_name(name) for name in names.split()]

    for name, labels in choices.items():
        shown_as = {value: Choice(value, display_name=label) for value, label in labels.items()}
        choice: Any = Enum("choice", shown_as)  # type: ignore[misc] # mypy wants literals
        named(name)[0]._meta.choices = choice  # only Piccolo Admin reads it: the database checks the values itself
    shown = named(columns)
    return TableConfig(
        table,
        menu_group=group,
        visible_columns=shown,
        visible_filters=named(filters),
        link_column=shown[0],
        order_by=[OrderBy(table._meta.get_column_by_name(newest_by), ascending=False)],
        validators=Validators(every=[_check_query]),
    )


def _values(literal: Any) -> dict[str, str]:
    return {value: value for value in get_args(literal)}


_STATUS = Literal["active", "suspended"]
TABLES = [
    _table(
        User,
        "Members",
        "username avatar display_name email status created_at deleted_at",
        "username display_name email status created_at deleted_at",
        status=_values(_STATUS),
    ),
    _table(ReservedUsername, "Members", "username until", "username until", newest_by="until"),
    _table(
        Token,
        "Members",
        "kind user name device address scopes last_used_at expires_at",
        "kind user",
        kind=_values(Literal["session", "key"]),
    ),
    _table(
        EmailToken, "Members", "purpose user created_at expires_at", "purpose user expires_at", purpose=_values(Purpose)
    ),
    _table(
        Message,
        "Members",
        "kind address attempts due_at created_at",
        "kind address attempts",
        kind=_values(MessageKind),
    ),
    _table(IdempotencyKey, "Members", "id user status created_at", "user status created_at"),
    _table(
        Template,
        "Templates",
        "name owner visibility newest_version retired_at updated_at",
        "name owner owner_inactive visibility style tags retired_at updated_at",
        visibility=_values(Visibility),
        style=_values(Style),
    ),
    _table(
        TemplateVersion,
        "Templates",
        "number template published_at deprecated_at",
        "template number published_at deprecated_at",
    ),
    _table(
        Character,
        "Characters",
        "name portrait owner template visibility updated_at deleted_at",
        "name owner template visibility tags deleted_at",
        visibility=_values(Visibility),
    ),
    _table(
        StoredFile,
        "Characters",
        "name width height color size stored_at",
        "name size stored_at",
        newest_by="stored_at",
    ),
    _table(Revision, "Characters", "number character created_at", "character"),
    _table(
        Card,
        "Characters",
        "spec character file spec_version updated_at",
        "spec character updated_at",
        spec=_values(Spec),
    ),
    _table(CardDocument, "Characters", "id", "id"),
    _table(CardAsset, "Characters", "path card file", "path card file"),
    _table(Relationship, "Characters", "type source target label created_at", "type source target created_at"),
    _table(Operator, "Operators", "username active admin last_login", "username active admin"),
    _table(OperatorRole, "Operators", "user_id role", "user_id role"),
    _table(OperatorSession, "Operators", "id user_id created_at expires_at", "user_id created_at"),
    _table(SecondFactor, "Operators", "id user_id active created_at", "user_id active created_at"),
    _table(
        AuditEntry,
        "Operators",
        "created_at action kind row owner member operator address detail",
        "created_at action row owner member operator address",
        action={action.value: action.label for action in Action},
    ),
]

# In the sidebar: lists that operators often look at
LINKS = {
    "Suspended members": "#/users/?status=suspended&deleted_at__operator=is_null",
    "Deleted accounts": "#/users/?deleted_at__operator=not_null",
    "Trash": "#/characters/?deleted_at__operator=not_null&ended=false",
    "The platform's templates": "#/templates/?owner__operator=is_null",
    "What operators did": "#/audit_log/?operator__operator=not_null",
}
