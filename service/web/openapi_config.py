"""The OpenAPI document's title and tags, and the page that shows it."""

from typing import Any

from litestar import Router
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.spec import Components, Contact, License, SecurityScheme, Tag

from service.web.openapi_guide import GUIDE
from service.web.swagger import SwaggerPage

_TAGS = {
    "Users": "User accounts and public profiles.",
    "Sessions": "Sign in and out. Send the token as `Authorization: Bearer <token>`.",
    "API keys": "Tokens with scopes, for programs.",
    "E-mail": "E-mail verification and password reset.",
    "Templates": "Reusable rules for characters. A published version never changes.",
    "Characters": "Characters with attributes, portraits and prompts.",
    "Cards": "Import and export of Character Cards.",
    "Revisions": "The history of a character. Every change can be read, compared and undone.",
    "Trash": "Deleted characters, which can be restored for 30 days.",
    "Changes": "A feed of changes, for clients that keep a copy of their characters.",
    "Relationships": "Relationships between two characters. Each can be read from either side.",
}

Json = dict[str, Any]


def _operation_id(handler: HTTPRouteHandler, *_: Any) -> str:
    return str(handler.handler_name)


OPENAPI = OpenAPIConfig(
    title="Character service",
    version="1",
    description=GUIDE,
    contact=Contact(name="The operator of this server"),
    license=License(name="MIT", identifier="MIT"),
    openapi_router=Router(
        "/docs",
        route_handlers=[],
        include_in_schema=False,
        response_headers={"Content-Security-Policy": SwaggerPage.POLICY},
    ),
    render_plugins=[SwaggerPage(path="/")],
    operation_id_creator=_operation_id,
    use_handler_docstrings=True,
    tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
    components=Components(
        security_schemes={
            "token": SecurityScheme(type="http", scheme="bearer", description="The token of a session or an API key.")
        }
    ),
)
