"""The admin site: Piccolo Admin, built once, on import.

Tables are read-only. Each action of an operator is a form, which calls the same queries as the API. ``piccolo user``
manages the operators.
"""

from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any

from loguru import logger
from piccolo.table import Table
from piccolo_admin.endpoints import FormConfig, TableConfig, create_admin
from piccolo_admin.translations.data import ENGLISH
from piccolo_api.crud.endpoints import OrderBy, PiccoloCRUD
from piccolo_api.crud.validators import Validators
from piccolo_api.rate_limiting.middleware import InMemoryLimitProvider
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.admin.mount import MOST_REFUSED
from service.admin.operators import MAX_AGE, Operator, OperatorSession
from service.admin.pictures import SCRIPT, add_pictures
from service.admin.pictures import STYLE as PICTURES_STYLE
from service.admin.roles import OperatorRole
from service.admin.second_factor_page import Provider, add_second_factor_page
from service.admin.second_factors import SecondFactor
from service.audit.tables import AuditEntry
from service.auth.suspensions import reactivate_user, suspend_user
from service.auth.tables import EmailToken, Token
from service.auth.token_cache import forget_tokens
from service.cards.tables import Card, CardAsset
from service.characters.tables import Character, Revision
from service.errors import NotFound
from service.idempotency.tables import IdempotencyKey
from service.mail.tables import Message
from service.media.tables import StoredFile
from service.relationships.tables import Relationship
from service.settings import settings
from service.templates.tables import Template, TemplateVersion
from service.users.tables import ReservedUsername, User
from service.web.csp import application_policy

# Hides Piccolo Admin's buttons for changing rows, as such requests are refused
_STYLE = (
    """
a[href$="/add/"], [data-uitest="save_button"], [data-uitest="drop_down_button"], [data-uitest="delete_row_button"],
table:has(th > input[type="checkbox"]) :is(th, td):is(:first-child, :last-child) { display: none !important }
form:has([data-uitest="save_button"]) :is(input, textarea, select) { pointer-events: none }
form:has([data-uitest="save_button"]) :is([data-uitest$="_array_widget"] a) { display: none }
"""
    + PICTURES_STYLE
    + ("" if settings.second_factor_key else 'li:has(> a[href$="/mfa-setup/"]) { display: none !important }\n')
)
# Hashes of the styles that the script of Piccolo Admin 1.14 adds; tests/slow/test_browser.py finds a new version's
_STYLE_HASHES = (
    "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "U2kEcnngcrfdto6sFJKrtW80odoJ5yOgdz80DpMDrWA=",
    "36E+CbvABov6CENfak/CBFxx0LsZtt+fKdRCtVFGtkw=",
    "t4I2teZN5ZH+VM+XOiWlaPbsjQHe+k9d6viXPpKpNWA=",
)
POLICY = application_policy(style=_STYLE, styles=_STYLE_HASHES).encode()


class AllowedHosts(tuple[str, ...]):
    """The hosts of the settings for the site's CSRF check: ``*.example.org`` contains every subdomain."""

    def __contains__(self, host: object) -> bool:
        return any(host == name or fnmatchcase(str(host), name) for name in self)


class UserChoice(BaseModel):
    username: str


def _user_form(name: str, description: str, change: Callable[[str, str], Awaitable[None]], outcome: str) -> FormConfig:
    """A form that takes a username and calls ``change`` with it and the operator's name."""

    async def submit(request: Request, data: UserChoice) -> str:
        username = data.username.strip()
        try:
            await change(username, request.user.display_name)
        except NotFound:
            raise ValueError("There is no such member.") from None
        forget_tokens()
        logger.info("Operator {}: member {} is {}", request.user.display_name, username, outcome)
        return f"{username} is {outcome}."

    return FormConfig(name, UserChoice, submit, description, form_group="Members")


def _check_order(piccolo_crud: PiccoloCRUD, request: Request) -> None:
    """Piccolo Admin would sort by a secret column, and fail with status 500 on an unknown one. Both are refused."""
    for key, value in request.query_params.multi_items():
        if key.rstrip("[]") == "__order":
            for name in value.split(","):
                if name.removeprefix("-") not in piccolo_crud.visible_fields_options:
                    raise HTTPException(400, f"Rows cannot be sorted by {name}.")


def _table(table: type[Table], group: str, columns: str, newest_by: str = "created_at") -> TableConfig:
    """``columns`` are the names of those that a list shows. The first is the link to a row."""
    shown = [table._meta.get_column_by_name(name) for name in columns.split()]
    return TableConfig(
        table,
        menu_group=group,
        visible_columns=shown,
        exclude_visible_filters=table._meta.secret_columns,
        link_column=shown[0],
        order_by=[OrderBy(table._meta.get_column_by_name(newest_by), ascending=False)],
        validators=Validators(every=[_check_order]),
    )


_TABLES = [
    _table(User, "Members", "username avatar display_name email status created_at deleted_at"),
    _table(ReservedUsername, "Members", "username until", newest_by="until"),
    _table(Token, "Members", "kind user name device address scopes last_used_at expires_at"),
    _table(EmailToken, "Members", "purpose user created_at expires_at"),
    _table(Message, "Members", "kind address attempts due_at created_at"),
    _table(IdempotencyKey, "Members", "id user status created_at"),
    _table(Template, "Templates", "name owner visibility newest_version updated_at"),
    _table(TemplateVersion, "Templates", "number template published_at deprecated_at"),
    _table(Character, "Characters", "name portrait owner template visibility updated_at"),
    _table(StoredFile, "Characters", "name width height color size stored_at", newest_by="stored_at"),
    _table(Revision, "Characters", "number character replaced created_at"),
    _table(Card, "Characters", "spec character file spec_version updated_at"),
    _table(CardAsset, "Characters", "path card file", newest_by="id"),
    _table(Relationship, "Characters", "type source target label created_at"),
    _table(Operator, "Operators", "username email active admin last_login", newest_by="id"),
    _table(OperatorRole, "Operators", "user_id role", newest_by="id"),
    _table(OperatorSession, "Operators", "id user_id created_at expires_at", newest_by="id"),
    _table(SecondFactor, "Operators", "id user_id created_at", newest_by="id"),
    _table(AuditEntry, "Operators", "created_at action kind row member operator address", newest_by="id"),
]

_FORMS = [
    _user_form(
        "Suspend a member",
        "The member is signed out and hidden from others; their data stays.",
        suspend_user,
        "suspended",
    ),
    _user_form(
        "Reactivate a member", "A suspended member can sign in again and is shown again.", reactivate_user, "active"
    ),
]

_NAME = "Character service"
_provider = Provider(_NAME) if settings.second_factor_key else None
site: Any = create_admin(
    _TABLES,
    _FORMS,
    auth_table=Operator,
    session_expiry=MAX_AGE,  # of the cookie; OperatorSession decides when the session ends
    session_table=OperatorSession,  # type: ignore[arg-type] # it has the methods that are called
    site_name=_NAME,
    mfa_providers=[_provider] if _provider else None,
    production=settings.in_production,
    allowed_hosts=AllowedHosts(settings.allowed_hosts),
    auto_include_related=False,
    default_language_code="en",
    translations=[ENGLISH.model_copy(update={"translations": ENGLISH.translations | {"Edit": "View"}})],
    rate_limit_provider=InMemoryLimitProvider(timespan=300, limit=MOST_REFUSED, block_duration=300),  # per worker
)
_IN_HEAD = f'<link rel="icon" href="data:,">{SCRIPT}<style>{_STYLE}</style>'
site.template = site.template.replace("</head>", f"{_IN_HEAD}</head>")
add_pictures(site)
if _provider is not None:
    add_second_factor_page(site, _provider)
if settings.second_factor_required:
    site.template = site.template.replace("<head>", '<head><script src="./second-factor.js"></script>')
