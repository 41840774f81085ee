"""The OpenAPI document: its title, its tags, and the page that shows it."""

from typing import Any

from litestar import Router
from litestar.handlers.http_handlers import HTTPRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, Contact, License, SecurityScheme, Tag

from service.web.csp import application_policy

ASSETS_PATH = "/docs-assets"

_TAGS = {
    "Users": "Members and their profiles.",
    "Sessions": "Signing in and out. Send the token as `Authorization: Bearer <token>`.",
    "API keys": "Tokens for programs, with scopes.",
    "E-mail": "Letters with a link that proves who reads an address: it is verified, or the password is chosen anew.",
    "Templates": "Reusable rules for characters, in versions that never change once published.",
    "Characters": "What the platform is for.",
    "Cards": "Characters that come from elsewhere, and go there.",
    "Revisions": "A character's history: every change can be read, compared and undone.",
    "Trash": "Deleted characters, for 30 days.",
    "Changes": "To keep a copy in step.",
    "Relationships": "What one character is to another: one row, read from both sides.",
}

Json = dict[str, Any]


_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#documentation", deepLinking: true, showExtensions: true, showCommonExtensions: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset]
})"""


class _Swagger(OpenAPIRenderPlugin):
    """Litestar's page holds the whole document in a script; this one has a script that a policy can name."""

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
        "Characters, the templates that rule them, and what they are to each other. Every error is a problem "
        "(RFC 9457) that names all its faults; lists are keyset pages; rows carry an ETag for `If-Match`."
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
            "token": SecurityScheme(type="http", scheme="bearer", description="A session's or an API key's token.")
        }
    ),
)
