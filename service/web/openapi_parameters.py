"""Query parameters and request headers in the OpenAPI document."""

from collections.abc import Sequence
from typing import Any

import msgspec

from service.parameters import FieldsQuery, ListQuery, Query
from service.web.openapi_config import Json
from service.web.openapi_examples import PATH_EXAMPLES

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A unique key for this request. A repeat within 24 hours returns the first response.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}


_SAMPLES: dict[str, Any] = {
    "owner": PATH_EXAMPLES["username"],
    "owner_id": "01920000-0000-7000-8000-000000000001",
    "q": "night rain",
    "id.in": [PATH_EXAMPLES["character_id"]],
    "name": "Mira Halloran",
    "tags": ["detective"],
    "tags.any": ["detective", "night"],
    "tags.none": ["rain"],
    "template": PATH_EXAMPLES["template_id"],
    "template_version": 1,
} | {f"{name}.{side}": "2026-01-31T00:00:00Z" for name in ("created_at", "updated_at") for side in ("gte", "lt")}
_SHOWN = {  # up to two of those that a list has
    "fields": ("name", "tags", "type", "attitude"),
    "expand": ("owner", "template"),
    "sort": ("-created_at", "name", "-deleted_at"),
}


def query_parameters(query: type[Query]) -> list[Json]:
    """The parameters that ``query`` declares."""
    parameters = []
    allowed = _choices(query)
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
        description = schema.pop("description", "")
        if sample := _sample(field.encode_name, allowed.get(field.name)):
            schema["examples"] = [sample]  # not an `example` of the parameter: pages would send it unasked
        if field.name in allowed and sample:
            description = f"{description.removesuffix('.')}: `{','.join(sample)}`."
        if description:
            parameter["description"] = description
        if field.default not in (None, msgspec.NODEFAULT):
            schema["default"] = field.default
        parameters.append(parameter)
    return parameters


def _choices(query: type[Query]) -> dict[str, list[str]]:
    choices = {}
    if issubclass(query, FieldsQuery):
        choices = {
            "fields": [*query.whole.__struct_fields__],
            "expand": [*query.expanded],
        }
    if issubclass(query, ListQuery):
        choices["sort"] = [prefix + name for name in query.sorts for prefix in ("", "-")]
    return choices


def _sample(name: str, choices: Sequence[str] | None) -> Any:
    """A value that the list takes, for a parameter whose type does not show one."""
    if choices is None:
        return _SAMPLES.get(name)
    return [choice for choice in _SHOWN[name] if choice in choices][:2]


def remove_null(parameter: Json) -> None:
    """Removes null from the schema of an optional parameter, which can be left out but not be null."""
    schema = parameter["schema"]
    for choice in schema.pop("oneOf", ()):
        if choice.get("type") != "null":
            schema |= choice
    for name in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(name, None)
