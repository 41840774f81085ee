"""The OpenAPI document: Litestar's document of the routes, completed.

Litestar's schemas are replaced by those of msgspec, which validates the bodies: they include the bounds of items and
refuse unknown fields. Problems, scopes, headers and query parameters are added from the routes.
"""

import re
from inspect import cleandoc
from typing import Any

import msgspec
from litestar import Litestar
from litestar.handlers.http_handlers import HTTPRouteHandler

from service.errors import PROBLEMS, Problem
from service.schemas import FieldsQuery
from service.web.openapi_config import Json
from service.web.openapi_parameters import (
    IDEMPOTENCY_KEY,
    query_parameters,
    remove_null,
)
from service.web.problems import MEDIA_TYPE
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
_BYTES = {"type": "string", "format": "binary"}
_PICTURE = {"image/webp": {"schema": _BYTES}}
_ELSEWHERE = {
    "description": "The picture is at another URL, which is valid for ten minutes.",
    "headers": {"Location": {"description": "The URL of the picture.", "schema": {"type": "string"}}},
}
_UPLOAD = {
    "required": True,
    "content": {
        "image/*": {"schema": _BYTES},
        "application/octet-stream": {"schema": _BYTES},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": _BYTES},
                "required": ["file"],
                "additionalProperties": False,
            }
        },
    },
}
_CARDS = {"image/png": {"schema": _BYTES}, "application/zip": {"schema": _BYTES}}
_FILES = {"type": "array", "items": _BYTES, "minItems": 1, "maxItems": 100}
_UPLOADS = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": _FILES},
                "required": ["file"],
                "additionalProperties": False,
            }
        }
    },
}
_ALWAYS = (
    "bad-request", "unauthorized", "url-too-long", "too-many-requests", "headers-too-large", "internal", "unavailable",
)  # fmt: skip
_WITH_BODY = ("validation", "too-large", "unsupported-media-type", "conflict", "request-timeout")
_REF = "#/components/schemas/{name}"


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
    kinds = [Problem, *sorted(wanted, key=str)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    for component in components.values():
        if "description" in component:
            component["description"] = cleandoc(component["description"])  # Python 3.13 has done so already
    schema_of = dict(zip(kinds, schemas, strict=True))
    for (path, method), handler in handlers.items():
        operation = document["paths"][path][method]
        _complete(operation, handler, path, method, schema_of)
        if issubclass(query_of(handler), FieldsQuery):
            _narrow(operation["responses"]["200"], components)
    document["components"]["schemas"] = components
    document["components"]["responses"] = {slug: _problem_response(slug) for slug in PROBLEMS}
    return document


def _complete(operation: Json, handler: HTTPRouteHandler, path: str, method: str, schema_of: dict[Any, Json]) -> None:
    text = cleandoc(operation.pop("description"))
    operation["summary"] = text.split("\n")[0].rstrip(".").replace("`", "")  # shown as it is
    if rest := text.partition("\n")[2].strip():
        operation["description"] = rest
    operation.pop("deprecated", None)
    parameters = operation.get("parameters", [])
    for parameter in parameters:
        remove_null(parameter)
    parameters += query_parameters(query_of(handler), handler.opt.get("listing"))
    if handler.opt.get("idempotent"):
        parameters.append(IDEMPOTENCY_KEY)
    if parameters:
        operation["parameters"] = parameters
    if handler.opt.get("uploads"):
        operation["requestBody"] = _UPLOADS
    if handler.opt.get("upload"):
        operation["requestBody"] = _UPLOAD
    body, answer = _body_of(handler), _answer_of(handler)
    if body in schema_of:
        for content in operation["requestBody"]["content"].values():
            content["schema"] = schema_of[body]
    (status,) = [status for status in operation["responses"] if status < "400"]
    success = operation["responses"][status]
    if answer in schema_of:
        for content in success["content"].values():
            content["schema"] = schema_of[answer]
    if also := handler.opt.get("also"):
        success["content"][also] = {"schema": {"type": "string"}}
    if handler.opt.get("card") and method == "get":
        success["content"] |= _CARDS
    if handler.opt.get("picture"):
        success["content"] = _PICTURE | success["content"]
    success["description"] = _DESCRIPTIONS[status]
    success["headers"] = {name: _header(name) for name in _headers_of(handler, status)}
    answers = {status: success}
    if status == "201" and handler.opt.get("dry_run"):
        answers["200"] = success | {"description": "Dry run: the resource that would be created.", "headers": {}}
    if handler.opt.get("picture"):
        answers["307"] = _ELSEWHERE
    operation["responses"] = answers | {
        str(PROBLEMS[slug].status.value): {"$ref": f"#/components/responses/{slug}"}
        for slug in sorted(_problems_of(handler, path, method), key=lambda slug: PROBLEMS[slug].status)
    }
    if handler.opt.get("quota"):
        operation["responses"]["403"] = _problem_response("forbidden", "quota-exceeded")
    operation["security"] = [{"token": []}, {}] if handler.opt.get("public") else [{"token": []}]
    if scope := next((guard.scope for guard in handler.guards or () if hasattr(guard, "scope")), None):
        operation["x-scope"] = scope


def _problems_of(handler: HTTPRouteHandler, path: str, method: str) -> set[str]:
    slugs = {*_ALWAYS}
    if handler.guards or not handler.opt.get("public"):
        slugs.add("forbidden")
    if "{" in path or handler.opt.get("may_be_none"):
        slugs.add("not-found")
    if handler.parsed_data_field is not None or handler.opt.keys() & {"upload", "uploads"}:
        slugs |= {*_WITH_BODY, "not-found"}
    if "if_match" in handler.parsed_fn_signature.parameters:
        slugs.add("precondition-failed")
    if method == "put":
        slugs.add("conflict")
    return slugs


def _narrow(answer: Json, components: Json) -> None:
    """Adds the schema of a response that has only the members named by `fields`."""
    for content in answer["content"].values():
        content["schema"] = {"anyOf": [content["schema"], _partial(content["schema"], components)]}


def _partial(reference: Json, components: Json) -> Json:
    whole: Json = components[reference["$ref"].rpartition("/")[2]]
    properties = whole["properties"]
    title = f"Partial{whole['title']}"
    if "items" not in properties:
        return whole | {"title": title, "required": ["id"]}
    items = {"type": "array", "items": _partial(properties["items"]["items"], components)}
    return whole | {"title": title, "properties": properties | {"items": items}}


def _headers_of(handler: HTTPRouteHandler, status: str) -> list[str]:
    answer = _answer_of(handler)
    names = ["Location"] if status == "201" else []
    if "version" in getattr(answer, "__struct_fields__", ()) or handler.opt.keys() & {"picture", "card"}:
        names.append("ETag")
    if "cursor" in query_of(handler).__struct_fields__:
        names.append("Link")
    if handler.opt.get("idempotent"):
        names.append("Idempotency-Replayed")
    return names


def _header(name: str) -> Json:
    return {"description": _HEADERS[name], "schema": {"type": "string"}}


def _body_of(handler: HTTPRouteHandler) -> Any:
    return handler.parsed_data_field.annotation if handler.parsed_data_field else None


def _answer_of(handler: HTTPRouteHandler) -> Any:
    returned = handler.parsed_fn_signature.return_type
    return (
        returned.inner_types[0].annotation
        if returned.inner_types and not _named(returned.annotation)
        else returned.annotation
    )


def _named(kind: Any) -> bool:
    origin = getattr(kind, "__origin__", kind)
    return isinstance(origin, type) and issubclass(origin, msgspec.Struct)


def _problem_response(*slugs: str) -> Json:
    meaning = " Or: ".join(PROBLEMS[slug].meaning for slug in slugs)
    content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}
    return {"description": meaning, "content": content}
