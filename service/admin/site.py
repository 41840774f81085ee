"""The site: Piccolo Admin, built once, when this is imported.

Its tables are for looking at. What an operator may do is a form, which goes the way that the API goes; operators
themselves are kept with ``piccolo user``.
"""

from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from typing import Any

from loguru import logger
from piccolo.columns import Column
from piccolo_admin.endpoints import FormConfig, TableConfig, create_admin
from piccolo_admin.translations.data import ENGLISH
from piccolo_api.crud.endpoints import OrderBy, PiccoloCRUD
from piccolo_api.crud.validators import Validators
from piccolo_api.rate_limiting.middleware import InMemoryLimitProvider
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request

from service.admin.mount import MOST_REFUSED
from service.admin.operators import LONGEST, Operator, OperatorSession
from service.admin.pictures import SCRIPT, add_pictures
from service.admin.pictures import STYLE as PICTURES_STYLE
from service.audit.tables import AuditEntry
from service.auth.tables import EmailToken, Token
from service.auth.token_cache import forget_tokens
from service.cards.tables import Card, CardAsset
from service.characters.tables import Character, Revision
from service.errors import NotFound
from service.idempotency.tables import IdempotencyKey
from service.mail.tables import Letter
from service.media.tables import StoredFile
from service.relationships.tables import Relationship
from service.settings import settings
from service.templates.tables import Template, TemplateVersion
from service.users.queries import reactivate_user, suspend_user
from service.users.tables import User
from service.web.csp import application_policy

# Piccolo Admin offers to change whatever it shows; what would be refused is not offered
_STYLE = (
    """
a[href$="/add/"], [data-uitest="save_button"], [data-uitest="drop_down_button"], [data-uitest="delete_row_button"],
table:has(th > input[type="checkbox"]) :is(th, td):is(:first-child, :last-child),
li:has(> a[href$="/mfa-setup/"]) { display: none !important }
form:has([data-uitest="save_button"]) :is(input, textarea, select) { pointer-events: none }
form:has([data-uitest="save_button"]) :is([data-uitest$="_array_widget"] a) { display: none }
"""
    + PICTURES_STYLE
)
_ADDED_STYLES = (  # by Piccolo Admin 1.14's script; tests/slow/test_browser.py finds those of another
    "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "U2kEcnngcrfdto6sFJKrtW80odoJ5yOgdz80DpMDrWA=",
    "36E+CbvABov6CENfak/CBFxx0LsZtt+fKdRCtVFGtkw=",
    "t4I2teZN5ZH+VM+XOiWlaPbsjQHe+k9d6viXPpKpNWA=",
)
POLICY = application_policy(style=_STYLE, styles=_ADDED_STYLES).encode()


class AllowedHosts(tuple[str, ...]):
    """Those of the settings, where *.example.org stands for its subdomains, as the site's CSRF check asks for them."""

    def __contains__(self, host: object) -> bool:
        return any(host == name or fnmatchcase(str(host), name) for name in self)


class Member(BaseModel):
    username: str


def _member_form(name: str, description: str, act: Callable[[str, str], Awaitable[None]], outcome: str) -> FormConfig:
    async def submit(request: Request, data: Member) -> str:
        username = data.username.strip()
        try:
            await act(username, request.user.display_name)
        except NotFound:
            raise ValueError("There is no such member.") from None
        forget_tokens()
        logger.info("Operator {}: member {} is {}", request.user.display_name, username, outcome)
        return f"{username} is {outcome}."

    return FormConfig(name, Member, submit, description, form_group="Members")


def _check_order(piccolo_crud: PiccoloCRUD, request: Request) -> None:
    """Piccolo Admin filters by no secret, but would sort by one, and answers an unknown column with a 500."""
    for key, value in request.query_params.multi_items():
        if key.rstrip("[]") == "__order":
            for name in value.split(","):
                if name.removeprefix("-") not in piccolo_crud.visible_fields_options:
                    raise HTTPException(400, f"Rows cannot be sorted by {name}.")


def _table(table: Any, group: str, columns: list[Column], newest_by: Column) -> TableConfig:
    return TableConfig(
        table,
        menu_group=group,
        visible_columns=columns,
        exclude_visible_filters=table._meta.secret_columns,
        link_column=columns[0],
        order_by=[OrderBy(newest_by, ascending=False)],
        validators=Validators(every=[_check_order]),
    )


_TABLES = [
    _table(
        User,
        "Members",
        [User.username, User.avatar, User.display_name, User.email, User.status, User.created_at, User.deleted_at],
        newest_by=User.created_at,
    ),
    _table(
        Token,
        "Members",
        [
            Token.kind,
            Token.user,
            Token.name,
            Token.device,
            Token.address,
            Token.scopes,
            Token.last_used_at,
            Token.expires_at,
        ],
        newest_by=Token.created_at,
    ),
    _table(
        EmailToken,
        "Members",
        [EmailToken.purpose, EmailToken.user, EmailToken.created_at, EmailToken.expires_at],
        newest_by=EmailToken.created_at,
    ),
    _table(
        Letter,
        "Members",
        [Letter.kind, Letter.address, Letter.attempts, Letter.due_at, Letter.created_at],
        newest_by=Letter.created_at,
    ),
    _table(
        IdempotencyKey,
        "Members",
        [IdempotencyKey.id, IdempotencyKey.user, IdempotencyKey.status, IdempotencyKey.created_at],
        newest_by=IdempotencyKey.created_at,
    ),
    _table(
        Template,
        "Templates",
        [Template.name, Template.owner, Template.visibility, Template.newest_version, Template.updated_at],
        newest_by=Template.created_at,
    ),
    _table(
        TemplateVersion,
        "Templates",
        [TemplateVersion.number, TemplateVersion.template, TemplateVersion.published_at, TemplateVersion.deprecated_at],
        newest_by=TemplateVersion.created_at,
    ),
    _table(
        Character,
        "Characters",
        [
            Character.name,
            Character.portrait,
            Character.owner,
            Character.template,
            Character.visibility,
            Character.updated_at,
        ],
        newest_by=Character.created_at,
    ),
    _table(
        StoredFile,
        "Characters",
        [StoredFile.name, StoredFile.width, StoredFile.height, StoredFile.color, StoredFile.size, StoredFile.stored_at],
        newest_by=StoredFile.stored_at,
    ),
    _table(
        Revision,
        "Characters",
        [Revision.number, Revision.character, Revision.replaced, Revision.created_at],
        newest_by=Revision.created_at,
    ),
    _table(
        Card,
        "Characters",
        [Card.spec, Card.character, Card.file, Card.spec_version, Card.updated_at],
        newest_by=Card.created_at,
    ),
    _table(
        CardAsset,
        "Characters",
        [CardAsset.path, CardAsset.card, CardAsset.file],
        newest_by=CardAsset.id,
    ),
    _table(
        Relationship,
        "Characters",
        [Relationship.type, Relationship.source, Relationship.target, Relationship.label, Relationship.created_at],
        newest_by=Relationship.created_at,
    ),
    _table(
        Operator,
        "Operators",
        [Operator.username, Operator.email, Operator.active, Operator.admin, Operator.last_login],
        newest_by=Operator.id,
    ),
    _table(
        OperatorSession,
        "Operators",
        [OperatorSession.id, OperatorSession.user_id, OperatorSession.created_at, OperatorSession.expires_at],
        newest_by=OperatorSession.id,
    ),
    _table(
        AuditEntry,
        "Operators",
        [
            AuditEntry.created_at,
            AuditEntry.action,
            AuditEntry.kind,
            AuditEntry.row,
            AuditEntry.member,
            AuditEntry.operator,
            AuditEntry.address,
        ],
        newest_by=AuditEntry.id,
    ),
]

_FORMS = [
    _member_form("Suspend a member", "Shuts the member out; what is theirs stays.", suspend_user, "suspended"),
    _member_form("Reactivate a member", "Lets a suspended member in again.", reactivate_user, "active"),
]

site: Any = create_admin(
    _TABLES,
    _FORMS,
    auth_table=Operator,
    session_expiry=LONGEST,  # of the cookie; when a session ends, its table says
    session_table=OperatorSession,  # type: ignore[arg-type] # it has what is asked of one
    site_name="Character service",
    production=settings.in_production,
    allowed_hosts=AllowedHosts(settings.allowed_hosts),
    auto_include_related=False,
    default_language_code="en",
    translations=[ENGLISH.model_copy(update={"translations": ENGLISH.translations | {"Edit": "View"}})],
    rate_limit_provider=InMemoryLimitProvider(timespan=300, limit=MOST_REFUSED, block_duration=300),  # of one worker
)
_IN_HEAD = f'<link rel="icon" href="data:,">{SCRIPT}<style>{_STYLE}</style>'
site.template = site.template.replace("</head>", f"{_IN_HEAD}</head>")
add_pictures(site)
