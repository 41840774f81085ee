"""The OpenAPI document's title and tags, and the page that shows it."""

from typing import Any

from litestar import Router
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, Contact, License, SecurityScheme, Tag

from service.web.csp import application_policy

ASSETS_PATH = "/docs-assets"

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


_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#documentation", deepLinking: true, showExtensions: true, showCommonExtensions: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset]
})"""


class _Swagger(OpenAPIRenderPlugin):
    """Like Litestar's page, whose inline script contains the whole document. This script is constant, so the content
    security policy can allow it by its hash."""

    def render(self, request: Any, openapi_schema: Json) -> bytes:
        return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{OPENAPI.title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="{ASSETS_PATH}/swagger-ui.css">
</head><body><div id="documentation"></div>
<script src="{ASSETS_PATH}/swagger-ui-bundle.js"></script>
<script src="{ASSETS_PATH}/swagger-ui-standalone-preset.js"></script>
<script>{_START}</script></body></html>""".encode()


def _operation_id(handler: HTTPRouteHandler, *_: Any) -> str:
    return str(handler.handler_name)


OPENAPI = OpenAPIConfig(
    title="Character service",
    version="1",
    description=(
        "An API for characters, their templates and the relationships between them. Errors are problem documents "
        "(RFC 9457) that list all faults of a request. Lists come in pages with cursors. Resources have an ETag for "
        "`If-Match`."
    ),
    contact=Contact(name="The operator of this server"),
    license=License(name="MIT", identifier="MIT"),
    openapi_router=Router(
        "/docs",
        route_handlers=[],
        include_in_schema=False,
        response_headers={"Content-Security-Policy": application_policy(script=_START)},
    ),
    render_plugins=[_Swagger(path="/")],
    operation_id_creator=_operation_id,
    use_handler_docstrings=True,
    tags=[Tag(name=name, description=text) for name, text in _TAGS.items()],
    components=Components(
        security_schemes={
            "token": SecurityScheme(type="http", scheme="bearer", description="The token of a session or an API key.")
        }
    ),
)
