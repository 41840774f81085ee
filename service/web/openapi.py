"""The OpenAPI document: Litestar's document of the routes, completed.

Litestar's schemas are replaced by those of msgspec, which validates the bodies: they include the bounds of items and
refuse unknown fields. Problems, scopes, headers and query parameters are added from the routes.
"""

import re
from collections.abc import Iterable, Mapping
from inspect import cleandoc
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers.http_handlers import HTTPRouteHandler

from service.errors import Problem
from service.parameters import FieldsQuery
from service.web.guards import requires_session, scope_of
from service.web.openapi_config import Json
from service.web.openapi_examples import PATH_EXAMPLES, examples_of
from service.web.openapi_parameters import (
    IDEMPOTENCY_KEY,
    query_parameters,
    remove_null,
)
from service.web.openapi_problems import DEFAULT, common_problems, problem_response, problems_of
from service.web.openapi_samples import add_samples
from service.web.openapi_schemas import (
    complete_schemas,
    component_name,
    expand_member,
    partial_of,
    struct_components,
)
from service.web.query import query_of

_HEADERS = {
    "ETag": "The version of the resource, for If-Match and If-None-Match.",
    "Location": "The URL of the new resource.",
    "Link": "The URL of the next page (rel=next).",
    "Idempotency-Replayed": "`true` if this is the stored response to an earlier request with the same key.",
}
_DESCRIPTIONS = {
    "200": "OK.",
    "201": "Created.",
    "202": "Accepted.",
    "204": "No content.",
}
_UNCHANGED = "Nothing changed: the resource as it is. In a dry run the resource that would be created, without ETag."


def openapi_document(app: Litestar) -> Json:
    """The document of all routes under /v1, as /openapi.json returns it."""
    document: Json = app.openapi_schema.to_schema()
    handlers = {
        (path, method.lower()): handler
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if isinstance(handler, HTTPRouteHandler) and handler.resolve_include_in_schema()
        for path in [re.sub(r":\w+}", "}", route.path)]
        for method in handler.http_methods
    }
    wanted = {
        kind for handler in handlers.values() for kind in (_body_of(handler), _answer_of(handler)) if _named(kind)
    }
    for handler in handlers.values():
        wanted |= {*_expanded(handler).values(), *_whole(handler)}
    kinds = [Problem, *sorted(wanted, key=str)]
    schema_of, components = struct_components(kinds)
    _expand(handlers.values(), schema_of, components)
    used: set[str] = set()
    for (path, method), handler in handlers.items():
        operation = document["paths"][path][method]
        _complete(operation, handler, path, method, schema_of)
        for whole in _whole(handler):
            _narrow(operation["responses"]["200"], components, component_name(schema_of[whole]["$ref"]))
        used |= {component_name(answer["$ref"]) for answer in operation["responses"].values() if "$ref" in answer}
    for component in components.values():
        if "description" in component:
            component["description"] = cleandoc(component["description"])  # Python 3.13 has done so already
    document["components"]["schemas"] = components
    document["components"]["responses"] = {
        slug: common_problems() if slug == DEFAULT else problem_response(slug) for slug in sorted(used)
    }
    complete_schemas(document, app.opt["enums"])
    add_samples(document)
    return document


def _expand(handlers: Iterable[HTTPRouteHandler], schema_of: dict[Any, Json], components: dict[str, Json]) -> None:
    """Adds the schemas of expanded members."""
    for handler in handlers:
        for member, kind in _expanded(handler).items():
            for answer in (_answer_of(handler), *_whole(handler)):
                if answer in schema_of:
                    component = components[component_name(schema_of[answer]["$ref"])]
                    if "items" in component["properties"]:
                        component = components[component_name(component["properties"]["items"]["items"]["$ref"])]
                    expand_member(component, member, component_name(schema_of[kind]["$ref"]))


def _complete(operation: Json, handler: HTTPRouteHandler, path: str, method: str, schema_of: dict[Any, Json]) -> None:
    summary, _, description = cleandoc(operation.pop("description")).partition("\n")
    operation["summary"] = summary.rstrip(".").replace("`", "")  # shown as it is
    operation.pop("deprecated", None)
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        remove_null(parameter)
        if method == "get" and handler.opt.get("public") and parameter["in"] == "path":
            parameter["example"] = PATH_EXAMPLES[parameter["name"]]
    parameters += query_parameters(query_of(handler))
    if handler.opt.get("idempotent"):
        parameters.append(IDEMPOTENCY_KEY)
    if parameters:
        operation["parameters"] = parameters
    body, answer = _body_of(handler), _answer_of(handler)
    if body in schema_of:
        shown = {"schema": schema_of[body]} | examples_of(str(handler.handler_name))
        operation["requestBody"]["content"]["application/json"] |= shown
    (status,) = [status for status in operation["responses"] if status < "300"]
    success = operation["responses"][status]
    if answer in schema_of:
        success["content"]["application/json"]["schema"] = schema_of[answer]
    success["description"] = _DESCRIPTIONS[status]
    success["headers"] = {name: _header(name) for name in [*success.get("headers", ()), *_headers_of(handler, status)]}
    answers = {status: success}
    if status == "201" and handler.opt.get("dry_run"):
        answers["200"] = success | {"description": "Dry run: the resource that would be created.", "headers": {}}
        if handler.opt.get("may_change_nothing"):
            answers["200"] |= {"description": _UNCHANGED, "headers": {"ETag": _header("ETag")}}
    answers |= {other: operation["responses"][other] for other in operation["responses"] if "300" <= other < "400"}
    has_quota = "403" in operation["responses"]
    operation["responses"] = answers | problems_of(handler, operation, path, method, has_quota=has_quota)
    scope = scope_of(handler)
    operation["security"] = [{"token": []}]
    if handler.opt.get("public"):
        operation["security"] = [{"token": []}, {}] if scope or _uses_caller(handler) else []
    if scope:
        operation["x-scope"] = scope
    operation["description"] = "\n\n".join(filter(None, (description.strip(), _access(handler, scope))))


def _access(handler: HTTPRouteHandler, scope: str | None) -> str:
    if handler.opt.get("public"):
        if scope:
            return f"A token is optional. An API key needs the scope `{scope}`."
        optional = "A token is optional" if _uses_caller(handler) else "Needs no token"
        return f"{optional}; one that is not valid is ignored."
    if scope:
        return f"Needs a session or an API key with the scope `{scope}`."
    return "Needs a session." if requires_session in handler.resolve_guards() else "Needs a token."


def _uses_caller(handler: HTTPRouteHandler) -> bool:
    return "user" in handler.parsed_fn_signature.parameters


def _narrow(answer: Json, components: Json, whole: str) -> None:
    """Adds the schema of a response that has only the members named by `fields`."""
    for content in answer["content"].values():
        name = component_name(content["schema"]["$ref"])
        content["schema"] = {"anyOf": [content["schema"], partial_of(name, components, whole)]}


def _headers_of(handler: HTTPRouteHandler, status: str) -> list[str]:
    answer = _answer_of(handler)
    names = ["Location"] if status == "201" else []
    if "version" in getattr(answer, "__struct_fields__", ()):
        names.append("ETag")
    if "cursor" in query_of(handler).__struct_fields__:
        names.append("Link")
    if handler.opt.get("idempotent"):
        names.append("Idempotency-Replayed")
    return names


def _header(name: str) -> Json:
    return {"description": _HEADERS[name], "schema": {"type": "string"}}


def _body_of(handler: HTTPRouteHandler) -> Any:
    field = handler.parsed_data_field
    if field is None:
        return None
    return field.inner_types[0].annotation if field.is_optional else field.annotation


def _answer_of(handler: HTTPRouteHandler) -> Any:
    returned = handler.parsed_fn_signature.return_type
    return (
        returned.inner_types[0].annotation
        if returned.inner_types and not _named(returned.annotation)
        else returned.annotation
    )


def _expanded(handler: HTTPRouteHandler) -> Mapping[str, Any]:
    query = query_of(handler)
    return query.expanded if issubclass(query, FieldsQuery) else {}


def _whole(handler: HTTPRouteHandler) -> list[Any]:
    query = query_of(handler)
    return [query.whole] if issubclass(query, FieldsQuery) else []


def _named(kind: Any) -> bool:
    origin = getattr(kind, "__origin__", kind)
    return isinstance(origin, type) and issubclass(origin, msgspec.Struct)
