"""Query parameters and request headers in the OpenAPI document."""

from collections.abc import Sequence

import msgspec

from service.schemas import FieldsQuery, ListQuery, Query
from service.web.openapi_config import Json

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A unique key for this request. A repeat within 24 hours returns the first response.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


def query_parameters(query: type[Query], members: Sequence[str]) -> list[Json]:
    """The parameters that ``query`` declares. ``members`` are those of the response."""
    parameters = []
    allowed = _choices(query, members)
    for field in msgspec.structs.fields(query):
        if field.name == "open" or allowed.get(field.name) == []:
            continue
        schema = msgspec.json.schema(field.type)
        schema = next((choice for choice in schema.pop("anyOf", ()) if choice != {"type": "null"}), {}) | schema
        parameter: Json = {"name": field.encode_name, "in": "query", "required": False, "schema": schema}
        if isinstance(schema.get("type"), list):
            schema["type"] = next(kind for kind in schema["type"] if kind != "null")
        if None in schema.get("enum", ()):
            schema["enum"] = [choice for choice in schema["enum"] if choice is not None]
        if schema.get("type") == "array":
            parameter |= {"style": "form", "explode": True}
            if choices := allowed.get(field.name):
                schema["items"] = {"enum": choices}
        if description := schema.pop("description", None):
            parameter["description"] = description
        if field.default not in (None, msgspec.NODEFAULT):
            schema["default"] = field.default
        parameters.append(parameter)
    return parameters


def _choices(query: type[Query], members: Sequence[str]) -> dict[str, list[str]]:
    choices = {}
    if issubclass(query, FieldsQuery):
        choices = {
            "fields": [*(query.whole.__struct_fields__ if query.whole else members)],
            "expand": [*query.expanded],
        }
    if issubclass(query, ListQuery):
        choices["sort"] = [prefix + name for name in query.sorts for prefix in ("", "-")]
    return choices


def remove_null(parameter: Json) -> None:
    """Removes null from the schema of an optional parameter, which can be left out but not be null."""
    schema = parameter["schema"]
    for choice in schema.pop("oneOf", ()):
        if choice.get("type") != "null":
            schema |= choice
    for name in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(name, None)
