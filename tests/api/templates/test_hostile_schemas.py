"""Schemas and attributes that are made to take long, judged by their CPU time."""

import json
import random
from typing import Any

import pytest

from service.templates.rules.bounds import ATTRIBUTES_BYTES, ATTRIBUTES_VALUES
from service.templates.rules.diff import schema_changes
from service.templates.rules.nodes import PATTERN_TEXT, TooLarge, compile_schema
from service.templates.rules.subset import schema_violations
from service.templates.rules.validator import Rules
from tests.support.cpu import is_quick

WORST = 0.01  # seconds for one schema, or for one character
Json = dict[str, Any]


def _object(**properties: Any) -> Json:
    return {"type": "object", "properties": properties}


def _list(items: Json, **keywords: Any) -> Json:
    return {"type": "array", "items": items} | keywords


def _numbered(count: int, rule: Json) -> Json:
    return _object(**{f"p{number}": rule for number in range(count)})


SCHEMAS: dict[str, Json] = {
    "100,000 properties": {"type": "object", "properties": {str(number): {} for number in range(100_000)}},
    "64 KiB of properties": {"type": "object", "properties": {str(number): {} for number in range(5_000)}},
    "64 levels": json.loads('{"type":"object","properties":{"a":' * 32 + "{}" + "}}" * 32),
    "an enum of 1 MiB": {"type": "object", "enum": [1] * 500_000},
    "an enum of 64 KiB": {"type": "object", "enum": [1] * 32_000},
    "9,000 values": {"type": "object", "properties": {"a": {"enum": [[1]] * 4_500}}},
    "9,000 annotations": {"type": "object", "x-a": [[1]] * 4_500},
    "required twice": {"type": "object", "required": ["a"] * 9_000},
    "broken keywords": {"type": "object", "properties": {str(n): {f"k{i}": 1 for i in range(40)} for n in range(190)}},
    "broken patterns": _numbered(200, {"pattern": r"\pL{9}"}),
    "costly patterns": _numbered(20, {"pattern": r"\w" * 12}),
    "a costly pattern": _object(a={"pattern": r"\s" * 41}),
    "repeated classes": _numbered(50, {"pattern": "[^a]{50}"}),
    "repeated dots": _numbered(33, {"pattern": ".{60}"}),
    "costly patterns with defaults": _numbered(30, {"pattern": "[ab]*a[ab]{99}c", "default": "ab" * 500}),
    "broken defaults": _numbered(45, _list({"enum": [1] * 90}, default=["x"] * 90)),
    "defaults of 200 objects with defaults": _object(
        **{f"p{n}": _list(_numbered(7, {"default": n}), default=[{}] * 198) for n in range(20)}
    ),
    "defaults within defaults": _object(
        a=_list(
            _object(b=_list(_object(c=_list(_object(d={"default": 1}), default=[{}] * 199)), default=[{}] * 199)),
            default=[{}] * 199,
        )
    ),
    "a default of 48 KB for each of 199 objects": _object(
        a=_list(_object(b={"default": "x" * 48_000}), default=[{}] * 199)
    ),
    "64 KiB of different limits": _numbered(170, {"enum": ["x" * 200, *range(15)], "multipleOf": 1e-30, "minimum": 1}),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_hostile_schemas_are_checked_within_ten_milliseconds(name: str) -> None:
    assert is_quick(lambda: schema_violations(SCHEMAS[name]), WORST)


def test_hostile_schemas_are_compared_within_ten_milliseconds() -> None:
    pair = [
        _numbered(
            140, {"enum": [text, *range(15)], "multipleOf": step, "minimum": step, "default": text, "x-a": [step]}
        )
        for text, step in (("x" * 110, 1e-30), ("y" * 110, 3e-30))
    ]
    assert [schema_violations(schema) for schema in pair] == [[], []]
    assert is_quick(lambda: schema_changes(*pair), WORST)


_TEXT = "".join(random.Random(1).choices("ab", k=60_000))
_DEFAULTS = {f"c{n}": {"default": n} for n in range(150)}

CHARACTERS: dict[str, tuple[Json, Json]] = {
    "empty objects with 150 defaults": (_object(a=_list(_object(**_DEFAULTS))), {"a": [{}] * 990}),
    "empty objects within empty objects": (
        _object(a=_list(_object(b=_list(_object(**_DEFAULTS), default=[{}] * 5)))),
        {"a": [{}] * 990},
    ),
    "300,000 empty objects": (_object(a=_list(_object(c={"default": 1}))), {"a": [{}] * 300_000}),
    "300,000 empty objects without defaults": (_object(), {"a": [{}] * 300_000}),
    "a default of 60 KB for each of 900 objects": (
        _object(a=_list(_object(b={"default": "x" * 60_000}))),
        {"a": [{}] * 900},
    ),
    "large objects as defaults": (
        _object(a=_list(_object(b={"default": {f"k{n}": n for n in range(190)}}))),
        {"a": [{}] * 900},
    ),
    "990 objects of 190 properties without defaults": (
        _object(a=_list(_numbered(190, {"type": "integer"}))),
        {"a": [{}] * 990},
    ),
    "as many defaults as fit": (_object(a=_list(_object(b={"default": 1}))), {"a": [{}] * 490}),
    "4,900 required names": (
        _object(a=_list({"type": "object", "required": [f"r{n}" for n in range(4_900)]})),
        {"a": [{}] * 990},
    ),
    "broken enum of one large text": (_object(a=_list({"enum": ["x" * 60_000]})), {"a": [1] * 990}),
    "broken enum of many texts": (
        _object(a=_list({"enum": ["x" * 300 + str(n) for n in range(199)]})),
        {"a": ["x" * 60] * 990},
    ),
    "broken const": (_object(a=_list({"const": ["x" * 300] * 190})), {"a": [1] * 990}),
    "broken at every level": (
        _object(a=_list(_list(_list({"type": "integer"}, minItems=9), minItems=9), minItems=999)),
        {"a": [[["x"]]] * 330},
    ),
    "unique objects": (_object(a=_list({}, uniqueItems=True)), {"a": [{"k": n} for n in range(490)]}),
    "unique texts that differ at their end": (
        _object(a=_list({}, uniqueItems=True)),
        {"a": ["x" * 50 + str(n) for n in range(990)]},
    ),
    "a pattern of many states": (_object(a={"pattern": "[ab]*a[ab]{890}c"}), {"a": _TEXT}),
    "a pattern on 990 texts": (
        _object(a=_list({"type": "string", "pattern": "[ab]*a[ab]{890}c"})),
        {"a": [_TEXT[n : n + 60] for n in range(990)]},
    ),
    "the longest text for a pattern of many states": (
        _object(a={"pattern": "[ab]*a[ab]{890}c"}),
        {"a": _TEXT[:PATTERN_TEXT]},
    ),
    "multiples of the smallest number": (
        _object(a=_list({"multipleOf": 1e-30})),
        {"a": [n * 1.1e15 for n in range(990)]},
    ),
    "multiples of the smallest numbers": (_object(a=_list({"multipleOf": 0.1})), {"a": [5e-324] * 990}),
    "multiples of small numbers": (_object(a=_list({"multipleOf": 0.1})), {"a": [1.1e-30] * 990}),
    **{
        f"990 texts of the format {name}": (
            _object(a=_list({"type": "string", "format": name})),
            {"a": [text * 20] * 990},
        )
        for name, text in (("uri", "a:/"), ("email", "a@a"), ("hostname", "xn-"), ("duration", "P1D"), ("ipv6", "1::"))
    },
}


@pytest.mark.parametrize("name", CHARACTERS)
def test_hostile_characters_are_completed_and_validated_within_ten_milliseconds(name: str) -> None:
    schema, attributes = CHARACTERS[name]
    assert schema_violations(schema) == []
    assert is_quick(lambda: Rules(schema).check(attributes), WORST)


def test_the_expansion_stops_at_the_bounds_of_attributes() -> None:
    for default, objects in ((1, 499), ("x" * 1_000, 64)):
        rules = Rules(_object(a=_list(_object(b={"default": default}))))
        completed, faults = rules.check({"a": [{}] * objects})
        assert (completed["a"], faults) == ([{"b": default}] * objects, [])
        more = {"a": [{}] * (objects + 2)}
        with pytest.raises(TooLarge):
            rules.complete(more)
        unchanged, (fault,) = rules.check(more)
        assert unchanged is more
        assert fault.pointer == "/attributes"
        assert fault.detail == (
            f"With the template's defaults, must hold at most {ATTRIBUTES_VALUES:,} values, nested ones included, "
            f"and {ATTRIBUTES_BYTES // 1024} KiB as JSON."
        )


@pytest.mark.parametrize(
    "within",
    [
        _object(**{f"p{n}": {"default": [0] * 99} for n in range(11)}),
        _object(a=_list(_numbered(4, {"default": 1}), default=[{}] * 199), b=_list({}, default=[0])),
        _object(a={"type": "object", "default": {}, "properties": {"b": {"default": "x" * 33_000}}}),
    ],
    ids=["values", "values within values", "bytes"],
)
def test_defaults_are_bounded_together(within: Json) -> None:
    for schema in (within, _object(list=_list(within))):
        (fault,) = schema_violations(schema)
        assert fault.pointer == "/attribute_schema"
        assert fault.detail.startswith("All defaults, each with the defaults within it, must together hold at most ")
        with pytest.raises(TooLarge):
            Rules(schema).complete({})


def test_texts_that_patterns_check_are_bounded_together() -> None:
    rules = Rules(_object(a=_list({"type": "string", "pattern": "^a*$"}), b={"type": "string"}))
    assert rules.check({"a": ["a" * (PATTERN_TEXT // 2)] * 2, "b": "b" * 50_000})[1] == []
    (fault,) = rules.check({"a": ["a" * (PATTERN_TEXT // 2)] * 2 + ["a"]})[1]
    assert fault.pointer == "/attributes/a/2"
    assert fault.detail == "All texts that must match a pattern must together have at most 1,000 characters."


def test_patterns_run_in_linear_time() -> None:
    pattern = compile_schema({"pattern": "^(a+)+$"})
    assert is_quick(lambda: pattern.is_valid("a" * 60_000 + "b"), 0.05)
