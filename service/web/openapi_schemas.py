"""The components of the OpenAPI document, in the form that client generators understand.

msgspec's schemas are complete, but generators need more: plain names, one schema for each enumeration, and what may be
left out told apart from what always comes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args, get_origin

import msgspec

from service.schemas import UNPRINTABLE, VISIBLE
from service.web.openapi_config import Json

REF = "#/components/schemas/{name}"
_UNPRINTABLE = re.compile(UNPRINTABLE)  # generators copy patterns into source code
_GENERIC = re.compile(r"(Page|Collection)_(\w+)_")


def struct_components(kinds: list[Any]) -> tuple[dict[Any, Json], dict[str, Json]]:
    """A reference to each of the ``kinds`` of Struct, and the components that they need."""
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    omitting = {kind.__name__ for kind in _structs(kinds) if kind.__struct_config__.omit_defaults}
    for name, component in components.items():
        if component.get("additionalProperties") is False:
            _describe_defaults(component)
        else:
            _require_what_always_comes(component, omitted=name in omitting)
    renamed = {name: plain_name(name) for name in components}
    return (
        {kind: rename(schema, renamed) for kind, schema in zip(kinds, schemas, strict=True)},
        {
            renamed[name]: rename(component, renamed) | {"title": renamed[name]}
            for name, component in components.items()
        },
    )


def plain_name(name: str) -> str:
    """``CharacterPage`` for ``Page_CharacterSummary_``."""
    if generic := _GENERIC.fullmatch(name):
        return resource_name(generic[2]) + generic[1]
    return name


def resource_name(name: str) -> str:
    return re.sub("(Summary|Read)$", "", name)


def rename(schema: Any, renamed: Mapping[str, str]) -> Any:
    """The schema with its references changed."""
    if isinstance(schema, list):
        return [rename(part, renamed) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(target := schema.get("$ref"), str):
        return {"$ref": reference_to(renamed[component_name(target)])}
    return {key: rename(part, renamed) for key, part in schema.items()}


def reference_to(name: str) -> str:
    return REF.format(name=name)


def component_name(reference: str) -> str:
    return reference.rpartition("/")[2]


def partial_of(name: str, components: dict[str, Json], whole: str | None = None) -> Json:
    """Adds the component ``name`` as ``fields`` narrows it, with only `id` required. Returns a reference to it.

    In a page the items are narrowed. They are those of ``whole`` if the list can show more than a summary.
    """
    component = components[name]
    partial = f"Partial{resource_name(name)}"
    if "items" in component["properties"]:
        item = whole or component_name(component["properties"]["items"]["items"]["$ref"])
        items = {"type": "array", "items": partial_of(item, components)}
        components[partial] = component | {"title": partial, "properties": component["properties"] | {"items": items}}
    else:
        components[partial] = component | {
            "title": partial,
            "description": "Only the fields that `fields` names, and `id`.",
            "required": ["id"],
        }
    return {"$ref": reference_to(partial)}


def expand_member(component: Json, member: str, expanded: str) -> None:
    """The ``member`` may also be the component ``expanded``, which is tried first because it has more members."""
    schema = component["properties"][member]
    narrow = schema.get("anyOf", [schema])
    if (wide := {"$ref": reference_to(expanded)}) not in narrow:
        component["properties"][member] = {"anyOf": [wide, *narrow]}


def complete_schemas(document: Json, enums: Mapping[str, Any]) -> None:
    """Gives each of the ``enums`` one component, and what generators need to each schema of the document."""
    names = {frozenset(get_args(choices)): name for name, choices in enums.items()}
    found: dict[str, Json] = {}
    _complete(document["paths"], names, found)
    _complete(document["components"], names, found)
    document["components"]["schemas"] |= {
        name: {"title": name, "type": "string", "enum": [*get_args(enums[name])]} for name in sorted(found)
    }


def _complete(part: Any, names: Mapping[frozenset[str], str], found: dict[str, Json]) -> None:
    for schema in _dictionaries(part):
        if isinstance(choices := schema.get("enum"), list):
            if name := names.get(frozenset(choices)):
                found[name] = schema.copy()
                kept = {key: value for key, value in schema.items() if key in ("default", "description")}
                schema.clear()
                schema |= {"$ref": reference_to(name)} | kept
            else:
                schema.setdefault("type", "string")
        elif schema.get("type") == "object" and not schema.keys() & {"properties", "additionalProperties"}:
            schema["additionalProperties"] = True
        elif isinstance(pattern := schema.get("pattern"), str):
            shorter = pattern.replace(VISIBLE.pattern, r"\S")  # the class of all visible characters fills pages
            schema["pattern"] = _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", shorter)


def _dictionaries(part: Any) -> Iterator[Json]:
    """All in the ``part`` that may be schemas; an example is data."""
    if isinstance(part, list):
        for each in part:
            yield from _dictionaries(each)
    elif isinstance(part, dict):
        for key, each in part.items():
            if key not in ("example", "examples", "default"):
                yield from _dictionaries(each)
        yield part


def _describe_defaults(component: Json) -> None:
    """In a request, a member with a default is optional. Generators that see a default require the member."""
    for schema in component["properties"].values():
        default = schema.pop("default", None)
        if default not in (None, "", [], {}):
            text = f"Default: `{default if isinstance(default, str) else msgspec.json.encode(default).decode()}`."
            schema["description"] = " ".join(filter(None, (schema.get("description"), text)))


def _require_what_always_comes(component: Json, *, omitted: bool) -> None:
    """In an answer, a member with a default always comes, or is left out and never null."""
    for name, schema in component.get("properties", {}).items():
        if "default" not in schema:
            continue
        del schema["default"]
        if not omitted:
            component["required"].append(name)
        elif choices := [choice for choice in schema.pop("anyOf", ()) if choice != {"type": "null"}]:
            schema |= choices[0] if len(choices) == 1 else {"anyOf": choices}


def _structs(kinds: Iterable[Any]) -> Iterator[Any]:
    """All Structs that the ``kinds`` are made of."""
    waiting: list[Any] = list(msgspec.inspect.multi_type_info(kinds))
    seen = set()
    while waiting:
        info = waiting.pop()
        if isinstance(info, list | tuple):
            waiting.extend(info)
        elif isinstance(info, msgspec.inspect.StructType):
            if info.cls not in seen:
                seen.add(info.cls)
                yield get_origin(info.cls) or info.cls
                waiting.extend(field.type for field in info.fields)
        elif isinstance(info, msgspec.inspect.Type):
            waiting.extend(getattr(info, name) for name in info.__struct_fields__)
