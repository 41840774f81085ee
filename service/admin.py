"""The admin site, for operators: Piccolo Admin, built once and mounted at /admin/."""

from typing import Any
from urllib.parse import unquote

from litestar import asgi
from litestar.types import Receive, Scope, Send
from piccolo.apps.user.tables import BaseUser
from piccolo_admin.endpoints import TableConfig, create_admin
from piccolo_api.session_auth.tables import SessionsBase

from service.characters.tables import Character, Revision
from service.relationships.tables import Relationship
from service.settings import settings
from service.templates.tables import Template, TemplateVersion
from service.tokens.tables import Token
from service.users.tables import User

PREFIX = "/admin"

_TABLES = [
    TableConfig(User, menu_group="Members", exclude_visible_columns=[User.password_hash], link_column=User.username),
    TableConfig(Token, menu_group="Members", exclude_visible_columns=[Token.digest]),
    TableConfig(Template, menu_group="Templates", link_column=Template.name),
    TableConfig(TemplateVersion, menu_group="Templates"),
    TableConfig(Character, menu_group="Characters", link_column=Character.name),
    TableConfig(Relationship, menu_group="Characters"),
    TableConfig(Revision, menu_group="Characters"),
    TableConfig(BaseUser, menu_group="Operators", exclude_visible_columns=[BaseUser.password]),
    TableConfig(SessionsBase, menu_group="Operators", exclude_visible_columns=[SessionsBase.token]),
]

_site: Any = create_admin(
    _TABLES,
    auth_table=BaseUser,
    session_table=SessionsBase,
    site_name="Character service",
    production=settings.in_production,
    allowed_hosts=list(settings.allowed_hosts),
    auto_include_related=False,
)


@asgi(PREFIX, is_mount=True, copy_scope=True)
async def admin(scope: Scope, receive: Receive, send: Send) -> None:
    """Litestar strips the prefix and forces a slash to the end; the site wants the path as it came, and root_path."""
    path = unquote((scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")) or PREFIX + scope["path"]
    if path == PREFIX:
        await send({"type": "http.response.start", "status": 307, "headers": [(b"location", b"/admin/")]})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return
    scope["root_path"] = PREFIX
    scope["path"] = path
    await _site(scope, receive, send)
