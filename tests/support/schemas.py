"""Strategies for schemas of the subset and for values near them. Few names and values exist, so that rules match."""

from typing import Any

from hypothesis import strategies as st

NAMES = ["a", "b", "c", "d/e~"]
PATTERNS = ["^a", "b$", "^[ab]*$", "(?:ab)+", "a{2,3}", "^$"]
FORMATS = ["date", "ipv4", "uuid"]

texts = st.text("ab", max_size=4) | st.sampled_from(["2024-02-29", "127.0.0.1", "x" * 9, "é😀"])
numbers = st.integers(-4, 8) | st.integers(-16, 32).map(lambda quarters: quarters / 4)
scalars = texts | numbers | st.booleans()
json_values = st.recursive(
    scalars | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)


def _ordered(low: str, high: str, limits: st.SearchStrategy[Any], strictly: bool = False) -> st.SearchStrategy[Any]:
    pairs = st.tuples(limits, limits).map(sorted).filter(lambda pair: not strictly or pair[0] < pair[1])
    return st.one_of(
        st.just({}),
        limits.map(lambda limit: {low: limit}),
        limits.map(lambda limit: {high: limit}),
        pairs.map(lambda pair: {low: pair[0], high: pair[1]}),
    )


def _with(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda found: {keyword: value for part in found for keyword, value in part.items()})


def _maybe(keyword: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.just({}) | values.map(lambda value: {keyword: value})


_limits = st.integers(-4, 8) | st.sampled_from([-0.5, 0.25, 1.5, 2.0])
_counts = st.integers(0, 4)
_sendable = json_values.filter(lambda value: value is not None)  # null removes an attribute
_choices = _maybe("enum", st.lists(_sendable, min_size=1, max_size=4)) | _maybe("const", _sendable)
_annotations = _maybe("title", texts) | _maybe("x-note", st.just({"$ref": "x"})) | _maybe("examples", st.just([1]))
_number_rules = _with(
    _ordered("minimum", "maximum", _limits)
    | _ordered("exclusiveMinimum", "maximum", _limits, strictly=True)
    | _ordered("minimum", "exclusiveMaximum", _limits, strictly=True),
    _maybe("multipleOf", st.sampled_from([1, 2, 3, 0.5, 0.25])),
)
_text_rules = _with(
    _ordered("minLength", "maxLength", _counts),
    _maybe("pattern", st.sampled_from(PATTERNS)),
    _maybe("format", st.sampled_from(FORMATS)),
)


def _list_rules(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return _with(
        _ordered("minItems", "maxItems", _counts), _maybe("uniqueItems", st.booleans()), _maybe("items", inner)
    )


@st.composite
def _object_rules(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    properties = draw(st.dictionaries(st.sampled_from(NAMES), inner, max_size=3))
    is_open = draw(st.booleans())
    required = st.lists(st.sampled_from(NAMES if is_open else sorted(properties) or NAMES), unique=True, max_size=2)
    rules: dict[str, Any] = {"properties": properties, "additionalProperties": is_open}
    return {**rules, "required": draw(required)} if is_open or properties else rules


def _typed(name: str, rules: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return _with(st.just({"type": name}), rules, _choices, _annotations)


_leaves = st.one_of(
    _typed("string", _text_rules),
    _typed("integer", _number_rules),
    _typed("number", _number_rules),
    _typed("boolean", st.just({})),
    _with(_number_rules, _text_rules, _choices),
)
_nodes = st.recursive(
    _leaves,
    lambda inner: _typed("array", _list_rules(inner)) | _typed("object", _object_rules(inner)),
    max_leaves=4,
)
schemas = _with(st.just({"type": "object"}), _object_rules(_nodes), _annotations)


def near(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of which many are valid for the schema."""
    if "const" in schema:
        return st.just(schema["const"]) | json_values
    if "enum" in schema:
        return st.sampled_from(schema["enum"]) | json_values
    by_type: dict[str | None, st.SearchStrategy[Any]] = {
        "string": texts,
        "integer": st.integers(-4, 8),
        "number": numbers,
        "boolean": st.booleans(),
    }
    if schema.get("type") == "array":
        return st.lists(near(schema.get("items", {})), max_size=4)
    if schema.get("type") == "object":
        return attributes_near(schema)
    return by_type.get(schema.get("type"), json_values)


def attributes_near(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    properties = {name: near(rule) for name, rule in schema.get("properties", {}).items()}
    required = schema.get("required", [])
    known = st.fixed_dictionaries(
        {name: properties.get(name, scalars) for name in required},
        optional={name: values for name, values in properties.items() if name not in required},
    )
    return known | st.tuples(known, st.dictionaries(st.sampled_from(NAMES), json_values, max_size=1)).map(
        lambda parts: parts[0] | parts[1]
    )
