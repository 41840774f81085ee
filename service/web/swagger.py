"""The page that shows the OpenAPI document: Swagger UI, whose files come from the package fastapi-swagger."""

from typing import Any

from litestar.openapi.plugins import OpenAPIRenderPlugin

from service.web.csp import application_policy
from service.web.pages import NAVIGATION_STYLE, navigation

ASSETS_PACKAGE, ASSETS_PATH = "fastapi_swagger", "/docs-assets"

# - The colours are those of the system.
# - The tab keeps the token until it is closed. A copy elsewhere would outlive the session.
# - An operation for which a token is optional shows no lock, but gets the token.
# - Filters by attributes can be tried. They have any name, and generators of clients would send them with another one.
# - A list of ids is edited like a list of strings: Swagger UI would log that it has no component for them.
_SCRIPT = """
const dark = matchMedia("(prefers-color-scheme: dark)")
const useSystemColours = () => document.documentElement.classList.toggle("dark-mode", dark.matches)
dark.addEventListener("change", useSystemColours)
useSystemColours()

const isOptional = security => security && security.some(scheme => scheme.size === 0)
const withoutLock = operation => isOptional(operation.get("security")) ? operation.delete("security") : operation
const Components = ({React, getComponent}) => ({
  wrapComponents: {OperationSummary: Original => props =>
    React.createElement(Original, {...props, operationProps: withoutLock(props.operationProps)})},
  components: {JsonSchema_string_uuid: props => React.createElement(getComponent("JsonSchema_string"), props)}
})

const byAttributes = {
  name: "attributes", in: "query", style: "form", explode: true,
  description: 'Filters by attributes, such as `{"attributes.wits.gte": "10"}`. Not in `/openapi.json`.',
  schema: {type: "object", additionalProperties: {type: "string"}, default: {}}
}
const OpenParameters = {statePlugins: {spec: {wrapActions: {updateJsonSpec: original => spec => {
  spec.paths?.["/v1/characters"]?.get.parameters.push(byAttributes)
  return original(spec)
}}}}}

const tokenOf = ui => ui.getState().getIn(["auth", "authorized", "token", "value"])
const ui = SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#documentation", deepLinking: true, showCommonExtensions: true,
  defaultModelsExpandDepth: 0, plugins: [Components, OpenParameters],
  onComplete: () => {
    const stored = sessionStorage.getItem("token")
    if (stored) ui.preauthorizeApiKey("token", stored)
    ui.getStore().subscribe(() => {
      const token = tokenOf(ui)
      if (token) sessionStorage.setItem("token", token)
      else sessionStorage.removeItem("token")
    })
  }
})
"""

# A problem is one line, which links to its page. Two colours of Swagger UI have too little contrast: those of methods,
# and of response headers in the dark.
_STYLE = (
    f"""{NAVIGATION_STYLE}"""
    """
body { margin: 0 }
.swagger-ui .response-col_links { display: none }
.swagger-ui .opblock .opblock-summary-method { color: #000; text-shadow: none }
.dark-mode .swagger-ui table.headers td { color: inherit }
.responses-table:not(.live-responses-table) .response:is([data-code^="4"], [data-code="default"])
  :is(.response-controls, .model-example) { display: none }
@media (max-width: 600px) {
  .swagger-ui .wrapper { padding: 0 10px }
  .swagger-ui .opblock .opblock-summary-control { min-width: 0 }
  .swagger-ui .opblock .opblock-summary-method { flex: none; min-width: 64px; font-size: 12px }
  .swagger-ui .opblock .opblock-summary-path-description-wrapper { min-width: 0; gap: 2px }
  .swagger-ui .opblock .opblock-summary-path { font-size: 14px }
  .swagger-ui .opblock-tag { flex-wrap: wrap }
  .swagger-ui .opblock-tag a { flex: 1 }
  .swagger-ui .opblock-tag small { order: 1; flex-basis: 100%; padding: 0 }
  .swagger-ui .parameters-container, .swagger-ui .responses-inner, .swagger-ui .opblock-body { overflow-x: auto }
}
"""
)


class SwaggerPage(OpenAPIRenderPlugin):
    """Like Litestar's page, whose inline script contains the whole document. This script is constant, so the content
    security policy can allow it by its hash."""

    POLICY = application_policy(script=_SCRIPT, style=_STYLE, shows_downloads=True)

    def render(self, request: Any, openapi_schema: dict[str, Any]) -> bytes:
        title = openapi_schema["info"]["title"]
        return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="{ASSETS_PATH}/swagger-ui.css"><style>{_STYLE}</style>
</head><body>{navigation("/docs")}<div id="documentation"></div>
<script src="{ASSETS_PATH}/swagger-ui-bundle.js"></script><script>{_SCRIPT}</script></body></html>""".encode()
