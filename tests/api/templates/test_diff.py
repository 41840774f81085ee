from collections.abc import Set
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.templates.rules.diff import SchemaChange, schema_changes
from service.templates.rules.subset import schema_violations
from service.templates.rules.validator import Rules
from tests.support.schemas import NAMES, attributes_near, json_values, near, schemas

NARROWING = {"narrowed", "retyped", "required"}
WIDENING = {"widened", "retyped", "optional"}


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    """The changes of the attribute `a` when its rule changes."""
    schemas = ({"type": "object", "properties": {"a": rule}} for rule in (before, after))
    return [(change.pointer, kind) for change in schema_changes(*schemas) for kind in change.kinds]


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        ({"type": "integer"}, {"type": "integer"}, []),
        ({"title": "A", "examples": [1], "x-a": 1}, {"description": "B"}, []),
        ({"type": "integer"}, {"type": "number"}, ["widened"]),
        ({"type": "number"}, {"type": "integer"}, ["narrowed"]),
        ({}, {"type": "integer"}, ["narrowed"]),
        ({}, {"type": "number"}, ["narrowed"]),
        ({"type": "number"}, {}, ["widened"]),
        ({"type": "integer"}, {}, ["widened"]),
        ({"type": "integer", "minimum": 1}, {"type": "string"}, ["retyped"]),
        ({"minimum": 1, "maximum": 10}, {"minimum": 5, "maximum": 15}, ["narrowed", "widened"]),
        ({"minimum": 1}, {"exclusiveMinimum": 1}, ["narrowed"]),
        ({"exclusiveMaximum": 1}, {"maximum": 1}, ["widened"]),
        ({"minimum": 1}, {"minimum": 1, "exclusiveMinimum": 0}, []),
        ({"minLength": 0}, {}, []),
        ({"minLength": 1}, {"minLength": 2}, ["narrowed"]),
        ({"maxLength": 1}, {"maxLength": 2}, ["widened"]),
        ({}, {"minItems": 1}, ["narrowed"]),
        ({"maxItems": 1}, {}, ["widened"]),
        ({}, {"uniqueItems": True}, ["narrowed"]),
        ({"uniqueItems": True}, {"uniqueItems": False}, ["widened"]),
        ({"multipleOf": 2}, {"multipleOf": 4}, ["narrowed"]),
        ({"multipleOf": 0.3}, {"multipleOf": 0.1}, ["widened"]),
        ({"multipleOf": 2}, {"multipleOf": 3}, ["narrowed", "widened"]),
        ({}, {"multipleOf": 3}, ["narrowed"]),
        ({"enum": ["a", "b"]}, {"enum": ["b", "a", "c"]}, ["widened"]),
        ({"enum": [1]}, {"const": 1.0}, []),
        ({"enum": [1]}, {"enum": [True]}, ["narrowed", "widened"]),
        ({"enum": [{"x": [1]}]}, {"enum": [{"x": [1.0]}, 0]}, ["widened"]),
        ({"enum": [1, 2]}, {"enum": [1, 2], "const": 2}, ["narrowed"]),
        ({"const": 1}, {}, ["widened"]),
        ({"pattern": "a"}, {"pattern": "b"}, ["narrowed", "widened"]),
        ({"format": "date"}, {}, ["widened"]),
        ({}, {"format": "date"}, ["narrowed"]),
        ({"default": 1}, {"default": 2}, ["default_changed"]),
        ({"default": 1}, {"default": 1.0}, []),
        ({"default": None}, {}, ["default_changed"]),
        ({"additionalProperties": False}, {}, ["widened"]),
        ({"additionalProperties": True}, {"additionalProperties": False}, ["narrowed"]),
    ],
)
def test_changes_of_one_attribute(before: dict[str, Any], after: dict[str, Any], kinds: list[str]) -> None:
    assert changed(before, after) == [("/attributes/a", kind) for kind in kinds]


@pytest.mark.parametrize(
    ("is_open", "added", "removed"),
    [(True, ["added", "narrowed"], ["removed", "widened"]), (False, ["added", "widened"], ["removed", "narrowed"])],
)
def test_an_attribute_is_added_and_removed(is_open: bool, added: list[str], removed: list[str]) -> None:
    without = {"type": "object", "additionalProperties": is_open}
    with_it = without | {"properties": {"a/b": {"type": "integer"}}}
    for pair, kinds in (((without, with_it), added), ((with_it, without), removed)):
        (change,) = schema_changes(*pair)
        assert (change.pointer, change.change, change.kinds) == ("/attributes/a~1b", kinds[0], kinds)


def test_an_attribute_without_rules_is_added() -> None:
    assert schema_changes({"type": "object"}, {"type": "object", "properties": {"a": {"title": "A", "x-a": 1}}}) == [
        SchemaChange("/attributes/a", "added", ["added"], "Is new.")
    ]


def test_required_and_optional() -> None:
    loose, strict = ({"type": "object", "required": names} for names in ([], ["a"]))
    assert schema_changes(loose, strict) == [
        SchemaChange("/attributes/a", "required", ["required"], "Is required now.")
    ]
    assert schema_changes(strict, loose) == [
        SchemaChange("/attributes/a", "optional", ["optional"], "Is no longer required.")
    ]


def test_changes_within_objects_and_lists() -> None:
    def bag(weight: dict[str, Any]) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "object", "properties": {"weight": weight}}}

    assert changed(bag({}), bag({"maximum": 5})) == [("/attributes/a/*/weight", "narrowed")]
    assert changed({"type": "array"}, {"type": "array", "items": {"type": "string"}}) == [
        ("/attributes/a/*", "narrowed")
    ]


def test_details_are_sentences_in_the_order_of_the_properties() -> None:
    before = {"type": "object", "properties": {"b": {"minimum": 1}, "a": {"maximum": 5}, "c": {"enum": ["x"]}}}
    after = {"type": "object", "properties": {"d": {}, "c": {}, "a": {"exclusiveMaximum": 9}, "b": {"minimum": 0.5}}}
    assert schema_changes(before, after) == [
        SchemaChange("/attributes/b", "widened", ["widened"], "The minimum was 1 and is now 0.5."),
        SchemaChange("/attributes/a", "widened", ["widened"], "The maximum was 5 and is now 9, exclusive."),
        SchemaChange("/attributes/c", "widened", ["widened"], "No longer has a list of choices: it was x."),
        SchemaChange("/attributes/d", "added", ["added"], "Is new."),
    ]


pairs = st.tuples(schemas, schemas)


@st.composite
def versions(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two versions that share most of their rules."""
    before, other = draw(pairs)
    names = draw(st.sets(st.sampled_from(NAMES)))
    properties = {name: rule for name, rule in before["properties"].items() if name not in names}
    properties |= {name: rule for name, rule in other["properties"].items() if name in names}
    keyword = draw(st.sampled_from(["required", "additionalProperties", "title"]))
    after = {**before, "properties": properties} | ({keyword: other[keyword]} if keyword in other else {})
    if not after["additionalProperties"]:
        after["required"] = [name for name in after.get("required", []) if name in properties]
    return before, {**after, "properties": {name: draw(_relaxed(rule)) for name, rule in properties.items()}}


def _relaxed(rule: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Often the same, often with one keyword less."""
    without = [
        {word: value for word, value in rule.items() if word != dropped} for dropped in rule if dropped not in _KEPT
    ]
    return st.sampled_from([rule, *without])


_KEPT = {"type", "properties"}


@settings(max_examples=250, deadline=None)
@given(versions=versions() | versions().map(lambda pair: pair[::-1]) | pairs, data=st.data())
def test_changes_are_sound(versions: tuple[dict[str, Any], dict[str, Any]], data: st.DataObject) -> None:
    before, after = versions
    assert schema_violations(before) == schema_violations(after) == []
    changes = schema_changes(before, after)
    anything = st.dictionaries(st.sampled_from(NAMES), json_values, max_size=3)
    attributes = st.one_of(attributes_near(before), attributes_near(after), anything)
    for candidate in data.draw(st.lists(attributes, min_size=3, max_size=6)):
        _check({kind for change in changes for kind in change.kinds}, before, after, candidate)
    for name in before["properties"].keys() & after["properties"].keys():
        old, new = before["properties"][name], after["properties"][name]
        here = "/attributes/" + name.replace("~", "~0").replace("/", "~1")
        own = {kind for each in changes if each.pointer == here for kind in each.kinds} - {"required", "optional"}
        kinds = own | {kind for each in changes if each.pointer.startswith(f"{here}/") for kind in each.kinds}
        for value in data.draw(st.lists(near(old) | near(new), min_size=2, max_size=4)):
            _check(kinds, old, new, value)


def _check(kinds: Set[str], before: dict[str, Any], after: dict[str, Any], value: object) -> None:
    was_valid, is_valid = (not list(Rules(schema).rule_violations(value, "")) for schema in (before, after))
    if not kinds & NARROWING:
        assert is_valid or not was_valid
    if not kinds & WIDENING:
        assert was_valid or not is_valid


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine makes few schemas a second
@given(schema=schemas)
def test_a_schema_compared_with_itself_is_unchanged(schema: dict[str, Any]) -> None:
    assert schema_changes(schema, schema) == []
