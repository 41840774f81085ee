import copy
import json
import socket
from collections.abc import Iterator
from typing import Any

import jsonschema
import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.templates.rules.bounds import bounds_violations
from service.templates.rules.details import FORMATS
from service.templates.rules.nodes import compile_schema
from service.templates.rules.subset import DIALECT, schema_violations
from service.templates.rules.validator import Rules
from tests.support.cpu import is_quick
from tests.support.schemas import NAMES, attributes_near, json_values, schemas

HERO = {
    "$schema": DIALECT,
    "type": "object",
    "title": "A hero",
    "required": ["strength", "race"],
    "additionalProperties": False,
    "properties": {
        "strength": {"type": "integer", "minimum": 1, "maximum": 20},
        "race": {"type": "string", "enum": ["elf", "dwarf"], "default": "elf"},
        "motto": {"type": "string", "minLength": 1, "maxLength": 5, "pattern": "^[a-z]*$"},
        "born": {"type": "string", "format": "date"},
        "luck": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "multipleOf": 0.1},
        "oath": {"const": {"$ref": "x"}},
        "cursed": {"type": "boolean", "default": False},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3, "uniqueItems": True},
        "stats": {
            "type": "object",
            "default": {},
            "required": ["hp"],
            "properties": {"hp": {"type": "integer", "default": 10}, "a/b~": {"type": "boolean"}},
        },
    },
}


def faults(attributes: dict[str, Any], schema: dict[str, Any] = HERO) -> dict[str | None, str]:
    return {violation.pointer: violation.detail for violation in Rules(schema).violations(attributes)}


def refused(**properties: Any) -> dict[str, str]:
    found = schema_violations({"type": "object", "properties": properties})
    return {str(each.pointer).removeprefix("/attribute_schema/properties/"): each.detail for each in found}


# Running the rules


def test_a_valid_schema_and_character() -> None:
    assert schema_violations(HERO) == []
    assert faults({"strength": 20, "race": "elf", "tags": ["brave"], "luck": 0.3, "oath": {"$ref": "x"}}) == {}


@pytest.mark.parametrize(
    ("name", "value", "detail"),
    [
        ("strength", 30, "30 is greater than the maximum of 20."),
        ("strength", 0, "0 is less than the minimum of 1."),
        ("strength", "strong", "Must be an integer."),
        ("strength", True, "Must be an integer."),
        ("race", "orc", "Must be one of: elf, dwarf."),
        ("motto", "", "Must be at least 1 character."),
        ("motto", "abcdef", "Must be at most 5 characters."),
        ("motto", "A", "Must match the pattern “^[a-z]*$”."),
        ("born", "today", "Must be a date such as 2025-03-21."),
        ("born", "2023-02-29", "Must be a date such as 2025-03-21."),
        ("luck", 0, "0 is not greater than 0."),
        ("luck", 1, "1 is not less than 1."),
        ("luck", 0.25, "0.25 is not a multiple of 0.1."),
        ("oath", "none", 'Must be {"$ref":"x"}.'),
        ("cursed", "no", "Must be true or false."),
        ("tags", [], "Must have at least 1 item."),
        ("tags", ["a", "b", "c", "d"], "Must have at most 3 items."),
        ("tags", ["a", "a"], "Must not have the same item twice."),
        ("tags", "brave", "Must be a list."),
        ("stats", [], "Must be an object."),
    ],
)
def test_each_rule_has_a_message(name: str, value: object, detail: str) -> None:
    assert faults({"strength": 1, "race": "elf", name: value})[f"/attributes/{name}"] == detail


OF_FORMATS = [  # a format, values that it refuses, and its sentence
    ("date", ["2026-11", "2026-W48", "27.11.2026", "2026-11-27T13:45"], "Must be a date such as 2025-03-21."),
    (
        "date-time",
        ["2026-11-27T13:45", "2026-11-27T13:45:00", "2026-11-27 13:45:00Z", "2026-11-27T13:45Z", "2026-11-27"],
        "Must be a date and time with seconds and a zone, such as 2025-03-21T18:30:00Z.",
    ),
    (
        "time",
        ["13:45", "13:45:00", "13:45Z", "1:45:00Z"],
        "Must be a time with seconds and a zone, such as 18:30:00Z.",
    ),
    ("duration", ["12:00", "12h"], "Must be a duration such as P1DT12H."),
    ("email", ["mira"], "Must be an e-mail address such as mira@example.org."),
    ("hostname", ["https://example.org", "a_b"], "Must be a host name such as www.example.org."),
    ("ipv4", ["192.0.2", "::1"], "Must be an IPv4 address such as 192.0.2.1."),
    ("ipv6", ["192.0.2.1"], "Must be an IPv6 address such as 2001:db8::1."),
    ("uri", ["example.org/mira", "/mira"], "Must be an absolute URI such as https://example.org/mira."),
    ("uuid", ["1"], "Must be a UUID such as 01920000-0000-7000-8000-000000000001."),
]


@pytest.mark.parametrize(("kind", "refused_values", "sentence"), OF_FORMATS)
def test_each_format_is_refused_with_an_example_that_is_valid(
    kind: str, refused_values: list[str], sentence: str
) -> None:
    schema = {"type": "object", "properties": {"value": {"type": "string", "format": kind}}}
    for value in ("", *refused_values):
        assert faults({"value": value}, schema) == {"/attributes/value": sentence}, value
    assert faults({"value": sentence.rpartition(" ")[2].removesuffix(".")}, schema) == {}


def test_every_format_has_its_sentence() -> None:
    assert {kind for kind, *_ in OF_FORMATS} == FORMATS.keys()


def test_all_violations_are_reported_at_their_members() -> None:
    assert faults({"strength": 30, "x": 1, "y": 2, "tags": ["a", 3], "stats": {"a/b~": 0, "note": "\0"}}) == {
        "/attributes/strength": "30 is greater than the maximum of 20.",
        "/attributes/race": "Is required.",
        "/attributes/x": "Is not an attribute of this template.",
        "/attributes/y": "Is not an attribute of this template.",
        "/attributes/tags/1": "Must be text.",
        "/attributes/stats/hp": "Is required.",
        "/attributes/stats/a~1b~0": "Must be true or false.",
        "/attributes/stats/note": "Must not contain the NUL character.",
    }


def test_an_object_without_properties_names_each_additional_one() -> None:
    closed = {"type": "object", "additionalProperties": False}
    assert list(faults({"x": 1, "y": 2}, closed)) == ["/attributes/x", "/attributes/y"]


def test_at_most_a_hundred_violations_are_reported_and_long_values_abbreviated() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "array", "items": {"const": "x" * 300}}}}
    found = Rules(schema).violations({"n": [1] * 300})
    assert len(found) == 100
    assert len(found[0].detail) < 100


def test_missing_members_get_their_defaults() -> None:
    rules = Rules(HERO)
    attributes: dict[str, Any] = {"strength": 3, "stats": {"mp": [1]}}
    before = copy.deepcopy(attributes)
    completed = rules.complete(attributes)
    assert completed == {"strength": 3, "stats": {"mp": [1], "hp": 10}, "race": "elf", "cursed": False}
    assert rules.complete({})["stats"] == {"hp": 10}
    rules.complete({})["stats"]["hp"] = 0
    assert (attributes, rules.complete({})["stats"]) == (before, {"hp": 10})


def test_items_get_their_defaults() -> None:
    item = {"type": "object", "properties": {"weight": {"type": "integer", "default": 1}}}
    rules = Rules({"type": "object", "properties": {"bag": {"type": "array", "items": item}}})
    assert rules.complete({"bag": [{}, {"weight": 2}]}) == {"bag": [{"weight": 1}, {"weight": 2}]}
    assert rules.complete({}) == {}


# Bounds


@pytest.mark.parametrize(
    ("attributes", "pointer"),
    [
        ({"a": "x\0"}, "/attributes/a"),
        ({"a": {"b": ["\ud800"]}}, "/attributes/a/b/0"),
        ({"a": 2**63}, "/attributes/a"),
        ({"a": [-(2**63) - 1]}, "/attributes/a/0"),
        ({"a": float("inf")}, "/attributes/a"),
        ({"a": float("nan")}, "/attributes/a"),
        ({"a": -9e-31}, "/attributes/a"),
        ({"a\nb": 1}, "/attributes"),
        ({"a": {"\ud800": 1}}, "/attributes/a"),
        ({"": 1}, "/attributes"),
        ({"a" * 101: 1}, "/attributes"),
        ({str(number): 1 for number in range(201)}, "/attributes"),
        ({"a": [1] * 1000}, "/attributes"),
        ({"a": "x" * 65536}, "/attributes"),
        (json.loads('{"a":' * 17 + "1" + "}" * 17), "/attributes" + "/a" * 16),
    ],
)
def test_bounds_hold_with_and_without_a_template(attributes: dict[str, Any], pointer: str) -> None:
    free = bounds_violations(attributes)
    assert [violation.pointer for violation in free] == [pointer]
    assert Rules({"type": "object"}).violations(attributes) == free
    json.dumps(free[0].detail).encode()


def test_values_just_within_the_bounds() -> None:
    assert (
        bounds_violations({"a": [0.0, 2**63 - 1, -(2**63), 9e18, 1e-30, "\n", None, "é" * 1000], "b" * 100: {}}) == []
    )
    assert bounds_violations(json.loads('{"a":' * 16 + "1" + "}" * 16)) == []
    assert bounds_violations({str(number): [1, 1, 1] for number in range(200)}) == []
    assert bounds_violations({"a": "x" * (64 * 1024 - len('{"a":""}'))}) == []


# The subset


@pytest.mark.parametrize(
    ("rule", "pointer"),
    [
        (True, "a"),
        ({"$ref": "#"}, "a/$ref"),
        ({"$schema": DIALECT}, "a/$schema"),
        ({"xml": {}}, "a/xml"),
        ({"type": "null"}, "a/type"),
        ({"type": ["string", "null"]}, "a/type"),
        ({"type": "text"}, "a/type"),
        ({"type": "string", "minimum": 1}, "a/minimum"),
        ({"type": "integer", "minLength": 1}, "a/minLength"),
        ({"minLength": -1}, "a/minLength"),
        ({"minLength": 1.5}, "a/minLength"),
        ({"minLength": True}, "a/minLength"),
        ({"minLength": 3, "maxLength": 2}, "a/minLength"),
        ({"minItems": 3, "maxItems": 2}, "a/minItems"),
        ({"minimum": 3, "maximum": 2}, "a/minimum"),
        ({"minimum": 2, "exclusiveMaximum": 2}, "a/minimum"),
        ({"exclusiveMinimum": 2, "maximum": 2}, "a/exclusiveMinimum"),
        ({"minimum": "1"}, "a/minimum"),
        ({"maximum": float("inf")}, "a/maximum"),
        ({"maximum": 2**63}, "a/maximum"),
        ({"multipleOf": 0}, "a/multipleOf"),
        ({"uniqueItems": 1}, "a/uniqueItems"),
        ({"enum": []}, "a/enum"),
        ({"enum": "elf"}, "a/enum"),
        ({"enum": list(range(201))}, "a/enum"),
        ({"const": {"b": ["\0"]}}, "a/const/b/0"),
        ({"examples": ["\ud800"]}, "a/examples/0"),
        ({"examples": 1}, "a/examples"),
        ({"x-note": {"b": "\0"}}, "a/x-note/b"),
        ({"title": 1}, "a/title"),
        ({"format": "regex"}, "a/format"),
        ({"format": []}, "a/format"),
        ({"type": "string", "format": "date", "default": "today"}, "a/default"),
        ({"type": "integer", "default": "x"}, "a/default"),
        ({"type": "array", "items": {"type": "integer"}, "default": [1, "x"]}, "a/default/1"),
        ({"type": "array", "items": {"type": "integer", "default": "x"}}, "a/items/default"),
        ({"items": [{}]}, "a/items"),
        ({"properties": {"b": 1}}, "a/properties/b"),
        ({"properties": {"b\n": {}}}, "a/properties"),
        ({"properties": {"b" * 101: {}}}, "a/properties"),
        ({"properties": []}, "a/properties"),
        ({"additionalProperties": {}}, "a/additionalProperties"),
        ({"required": ["b", "b"]}, "a/required"),
        ({"required": [1]}, "a/required"),
        ({"required": ["b"], "additionalProperties": False}, "a/required/0"),
        ({"pattern": "(?=a)"}, "a/pattern"),
        ({"pattern": "(?i)a"}, "a/pattern"),
        ({"pattern": r"\\(?i)a"}, "a/pattern"),
        ({"pattern": r"(a)\1"}, "a/pattern"),
        ({"pattern": "["}, "a/pattern"),
        ({"pattern": "(?:a{1000}){1000}"}, "a/pattern"),
        ({"pattern": "a" * 501}, "a/pattern"),
        ({"pattern": 1}, "a/pattern"),
        ({"properties": {str(number): {} for number in range(200)}}, "a/properties"),
        ({"pattern": r"\p{L}" * 34}, "a/pattern"),
    ],
)
def test_keywords_outside_the_subset_are_refused(rule: object, pointer: str) -> None:
    assert list(refused(a=rule)) == [pointer]


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"const": {"$ref": "x"}},
        {"enum": [{"$id": "http://["}, [None], 1]},
        {"default": {"$ref": "x", "$schema": "y"}},
        {"x-anything": {"$ref": "x", "allOf": [{"$id": "y"}]}},
        {"properties": {"$ref": {"type": "string"}, "$id": {}, "allOf": {}}},
        {"required": ["free"]},
        {"type": "number", "minimum": 2, "maximum": 2},
        {"type": "string", "pattern": r"^[\p{L}\p{M}' -]+\(?$"},
        {"type": "object", "default": {}, "required": ["hp"], "properties": {"hp": {"default": 1}}},
    ],
)
def test_keywords_of_the_subset_are_accepted(rule: object) -> None:
    assert refused(a=rule) == {}


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ([], ""),
        (True, ""),
        (None, ""),
        ({}, "/type"),
        ({"type": "array"}, "/type"),
        ({"type": ["object"]}, "/type"),
        ({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema"),
        ({"type": "object", "default": {}}, "/default"),
        ({"type": "object", "a~/b": {}}, "/a~0~1b"),
    ],
)
def test_faults_of_the_root(schema: object, pointer: str) -> None:
    assert [violation.pointer for violation in schema_violations(schema)] == [f"/attribute_schema{pointer}"]


def test_all_faults_of_a_schema_are_reported_up_to_a_hundred() -> None:
    assert refused(a={"$ref": "x", "type": "null"}, b={"items": {"not": {}}}).keys() == {
        "a/$ref",
        "a/type",
        "b/items/not",
    }
    assert len(refused(**{str(number): {"not": {}} for number in range(150)})) == 100


def test_schemas_nest_eight_deep() -> None:
    def nested(depth: int) -> dict[str, Any]:
        return {"type": "object", "properties": {"a": nested(depth - 1)}} if depth > 1 else {"type": "object"}

    assert schema_violations(nested(8)) == []
    assert [each.pointer for each in schema_violations(nested(9))] == ["/attribute_schema" + "/properties/a" * 8]


# No requests to other hosts


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        yield server


def test_references_within_data_are_not_followed(listener: socket.socket) -> None:
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    data = {"$ref": address, "$id": address, "$schema": address}
    rule = {"const": data, "enum": [data], "default": data, "examples": [data], "x-note": data}
    schema = {"type": "object", "properties": {"a": rule}}
    assert schema_violations(schema) == []
    assert Rules(schema).violations({"a": data}) == []
    assert [each.pointer for each in schema_violations({"type": "object", **data})] == [
        "/attribute_schema/$ref",
        "/attribute_schema/$id",
        "/attribute_schema/$schema",
    ]
    with pytest.raises(TimeoutError):
        listener.accept()


def test_the_compiler_does_not_follow_references(listener: socket.socket) -> None:
    with pytest.raises(ValueError, match="Retrieval is disabled"):
        compile_schema({"$ref": f"http://127.0.0.1:{listener.getsockname()[1]}/"})
    with pytest.raises(TimeoutError):
        listener.accept()


UNSUPPORTED = [
    *("$ref", "$id", "$anchor", "$defs", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$vocabulary", "$comment"),
    *("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependentRequired", "dependencies"),
    *("prefixItems", "additionalItems", "contains", "patternProperties", "propertyNames", "unevaluatedProperties"),
    *("unevaluatedItems", "minProperties", "maxProperties", "contentEncoding", "contentSchema", "definitions", "id"),
]


@settings(max_examples=150, deadline=None)
@given(schema=schemas, data=st.data())
def test_unsupported_keywords_are_refused_in_every_schema(schema: dict[str, Any], data: st.DataObject) -> None:
    schema = copy.deepcopy(schema)
    at, place = data.draw(st.sampled_from(list(_places(schema, "/attribute_schema"))))
    keyword = data.draw(st.sampled_from(UNSUPPORTED))
    values = st.sampled_from(["http://192.0.2.1/", "file:///etc/passwd", "#", "../x", {"$ref": "#"}, [{}], True])
    place[keyword] = data.draw(values)
    assert [each.pointer for each in schema_violations(schema)] == [f"{at}/{keyword}"]
    assert is_quick(lambda: schema_violations(schema), 0.01)


def _places(schema: dict[str, Any], at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield at, schema
    for name, rule in schema.get("properties", {}).items():
        yield from _places(rule, f"{at}/properties/{name.replace('~', '~0').replace('/', '~1')}")
    if "items" in schema:
        yield from _places(schema["items"], f"{at}/items")


# Any schema, any attributes


@settings(max_examples=300, deadline=None)
@given(schema=schemas, data=st.data())
def test_two_other_validators_agree(schema: dict[str, Any], data: st.DataObject) -> None:
    assert schema_violations(schema) == []
    attributes = data.draw(attributes_near(schema) | st.dictionaries(st.sampled_from(NAMES), json_values, max_size=3))
    verdict = Rules(schema).violations(attributes) == []
    assert verdict == jsonschema_rs.is_valid(schema, attributes, validate_formats=True)
    other = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker(["date", "ipv4", "uuid"]))
    assert verdict == other.is_valid(attributes)


@settings(max_examples=150, deadline=None)
@given(schema=schemas, data=st.data())
def test_violations_point_at_existing_or_required_members(schema: dict[str, Any], data: st.DataObject) -> None:
    attributes = data.draw(attributes_near(schema))
    for violation in Rules(schema).violations(attributes):
        *path, last = [
            step.replace("~1", "/").replace("~0", "~") for step in str(violation.pointer).split("/")[2:]
        ] or [""]
        parent: Any = attributes
        for step in path:
            parent = parent[int(step) if isinstance(parent, list) else step]
        is_there = last in parent if isinstance(parent, dict) else int(last) < len(parent)
        assert is_there != (violation.detail == "Is required.")
        assert violation.detail.endswith(".")


@settings(max_examples=200, deadline=None)
@given(schema=schemas, data=st.data())
def test_completing_is_idempotent_and_adds_only_defaults(schema: dict[str, Any], data: st.DataObject) -> None:
    schema = _with_defaults(schema, data)
    rules = Rules(schema)
    attributes = data.draw(attributes_near(schema))
    before = copy.deepcopy(attributes)
    completed = rules.complete(attributes)
    assert attributes == before
    assert rules.complete(completed) == completed
    assert attributes.items() <= _pruned(completed, attributes).items()
    assert completed.keys() - attributes.keys() <= {
        name for name, rule in schema["properties"].items() if "default" in rule
    }


@settings(max_examples=200, deadline=None)
@given(schema=schemas, data=st.data())
def test_defaults_for_all_required_members_make_an_empty_object_valid(
    schema: dict[str, Any], data: st.DataObject
) -> None:
    schema = _with_defaults(schema, data)
    schema["required"] = [name for name, rule in schema["properties"].items() if "default" in rule]
    assert schema_violations(schema) == []
    rules = Rules(schema)
    assert rules.violations(rules.complete({})) == []


def _with_defaults(schema: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """The schema with a default for each property for which a valid value is found."""
    schema = copy.deepcopy(schema)
    for rule in schema["properties"].values():
        _with_defaults(rule, data) if "properties" in rule else None
        default = data.draw(attributes_near(rule) if rule.get("type") == "object" else json_values)
        if compile_schema(rule).is_valid(Rules(rule).complete(default) if isinstance(default, dict) else default):
            rule["default"] = default
    return schema


def _pruned(completed: Any, attributes: Any) -> Any:
    """The completed value without the members that were added."""
    if isinstance(attributes, dict):
        return {name: _pruned(completed[name], member) for name, member in attributes.items()}
    if isinstance(attributes, list):
        return [_pruned(*pair) for pair in zip(completed, attributes, strict=True)]
    return completed
