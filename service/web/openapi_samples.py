"""Examples of responses in the OpenAPI document, put together from an example of each member."""

from collections.abc import Mapping
from typing import Any

from service.web.openapi_config import Json
from service.web.openapi_examples import EXAMPLES
from service.web.openapi_schemas import component_name

_ID = "0199c0de-0000-7000-8000-0000000000{}"
_CHARACTER, _USER, _TEMPLATE, _OTHER, _RELATIONSHIP = (_ID.format(f"0{number}") for number in range(1, 6))
_NOW, _SOON, _LATER = (f"2026-{time}.000000Z" for time in ("11-25T12:00:00", "11-25T12:10:00", "12-25T12:00:00"))
_SIZES = ("64", "256", "512", "1024", "original")
_FAULT = {"pointer": "/attributes/wits", "detail": "30 is greater than the maximum of 20."}

# For each member, or for a member of one component. Other members are made of their own, or have one value only.
_MEMBERS: dict[str, Any] = {
    "id": _CHARACTER,
    "Owner.id": _USER, "Profile.id": _USER, "Me.id": _USER,
    "Pin.id": _TEMPLATE, "TemplateRead.id": _TEMPLATE, "TemplateSummary.id": _TEMPLATE,
    "RelationshipRead.id": _RELATIONSHIP, "Edge.id": _RELATIONSHIP,
    "version": 1, "newest_version": 1, "number": 1, "before": 1, "after": 2,
    "created_at": _NOW, "updated_at": _NOW, "last_used_at": _NOW, "published_at": _NOW, "deleted_at": _NOW,
    "expires_at": _LATER, "PortraitLinks.expires_at": _SOON, "deprecated_at": None, "retired_at": None,
    "name": "Mira Halloran", "TemplateRead.name": "Night detective", "TemplateSummary.name": "Night detective",
    "ApiKey.name": "Image generator", "ApiKeyCreated.name": "Image generator",
    "RelationshipTypeRead.name": "mentor_of", "RelationshipTypeRead.inverse": "student_of",
    "RelationshipTypeRead.symmetric": False, "RelationshipTypeRead.category": "work",
    "description": "Solves what the day shift could not.", "style": "vintage", "tags": ["detective", "night"],
    "visibility": "private", "prompt": "Mira Halloran, inspector, wits 17, rain on a tin roof",
    "TemplateRead.prompt": EXAMPLES["create_template"]["prompt"],
    "TemplateVersionRead.prompt": EXAMPLES["create_template"]["prompt"], "TemplateVersionRead.template": _TEMPLATE,
    "attributes": {"role": "inspector", "wits": 17}, "extensions": {}, "forked_from": None,
    "attribute_schema": EXAMPLES["create_template"]["attribute_schema"],
    "url": f"/v1/characters/{_CHARACTER}/portrait?v=8f14e45f0000", "width": 768, "height": 1024, "color": "#7a5c43",
    "Link.title": "Story generator", "Link.url": "https://example.org/ada",
    "PortraitLinks.links": {size: f"/media/{_CHARACTER}-{size}.webp" for size in _SIZES},
    "username": "ada", "display_name": "Ada", "bio": "Writes detectives.", "links": [], "avatar": None,
    "email": "ada@example.org", "email_verified": True, "device": "Firefox on Linux", "address": "192.0.2.7",
    "current": True, "token": "chs_" + 43 * "A" + "00000000", "ApiKeyCreated.token": "chk_" + 43 * "A" + "00000000",
    "scopes": ["characters:read"], "CurrentToken.kind": "session", "Change.kind": "character",
    "next_cursor": None, "ChangePage.next_cursor": "MC4xLjE", "Change.deleted": False,
    "used": 12, "limit": 10_000, "versions_per_template": 200, "relationships_per_character": 5_000,
    "revisions_per_character": 500, "Usage.characters": 12, "Usage.versions": {"1": 9, "2": 3},
    "spec": "chara_card_v3", "spec_version": "3.0", "CardRead.data": {"name": "Mira Halloran", "personality": "wry"},
    "changed": ["description"], "pointer": "/description", "change": "added",
    "SchemaChange.pointer": "/attributes/alibi", "kinds": ["added", "widened"],
    "detail": "Is new. No value was accepted before.",
    "Difference.before": "", "Difference.after": "Wry.",
    "file": "mira.png", "ImportOutcome.status": 201, "Outcome.status": 201, "notes": [],
    "missing": [], "unknown": [], "state": "published", "Validation.state": "invalid", "problems": [_FAULT],
    "outcome": "invalid", "filled": [], "depth": 1, "truncated": False,
    "type": "mentor_of", "label": None, "inverse_label": None, "attitude": 40, "returned_attitude": 60,
    "RelationshipRead.target": {"id": _OTHER, "name": "Otto Brandt"}, "Edge.source": _CHARACTER, "Edge.target": _OTHER,
}  # fmt: skip
_ALSO = {
    "Change": ["character"],
    "ImportOutcome": ["character"],
    "Outcome": ["character"],
    "Difference": ["before", "after"],
}


def add_samples(document: Json) -> None:
    """Gives each JSON response of a success an example."""
    components = document["components"]["schemas"]
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                for media_type, content in answer.get("content", {}).items() if status < "300" else ():
                    if media_type == "application/json":
                        schema = content["schema"].get("anyOf", [content["schema"]])[0]  # without `fields`
                        sample = _component(component_name(schema["$ref"]), components)
                        content["example"] = _after(operation["operationId"], sample)
                    elif media_type.endswith("+json"):
                        content["example"] = _MEMBERS["attribute_schema"]


def _after(operation: str, sample: Json) -> Json:
    """The ``sample`` as the example of the request leaves it."""
    sent = {name: value for name, value in EXAMPLES.get(operation, {}).items() if type(value) is type(sample.get(name))}
    return sample | sent


def _component(name: str, components: Mapping[str, Json]) -> Json:
    component = components[name]
    shown = [*component["required"], *_ALSO.get(name, ())]
    members = component["properties"].items()
    return {member: _member(name, member, schema, components) for member, schema in members if member in shown}


def _member(component: str, member: str, schema: Json, components: Mapping[str, Json]) -> Any:
    """Raises LookupError for a member without an example."""
    for key in (f"{component}.{member}", member):
        if key in _MEMBERS:
            return _MEMBERS[key]
    choices = [choice for choice in schema.get("anyOf", [schema]) if choice != {"type": "null"}]
    narrow = choices[-1]  # without `expand`
    items = narrow.get("items", narrow)
    if "$ref" not in items or "properties" not in components[component_name(items["$ref"])]:
        raise LookupError(f"Name an example of {component}.{member} in service/web/openapi_samples.py.")
    sample = _component(component_name(items["$ref"]), components)
    return [sample] if "items" in narrow else sample
