"""The parts of an attribute schema, each with what it adds to a value and the faults that it finds."""

from collections.abc import Iterator
from typing import Any

import jsonschema_rs

from service.errors import Violation
from service.templates.rules.bounds import ATTRIBUTES_BYTES, ATTRIBUTES_VALUES, json_bytes
from service.templates.rules.details import DETAILS, OF_VALUE
from service.text.json_values import count_values
from service.validation import pointer

Schema = dict[str, Any]

PATTERN_BYTES = 64 * 1024  # of a compiled pattern: bounds the time for each character of a text
PATTERN_CACHE_BYTES = 64 * 1024
PATTERN_TEXT = 1_000  # characters that patterns check, in all attributes of a character; up to 4 µs for each

_PATTERN_TEXT_TOO_LONG = f"All texts that must match a pattern must together have at most {PATTERN_TEXT:,} characters."


class TooLarge(Exception):
    """The attributes with their defaults exceed the bounds."""


class Budget:
    """The rest that one expansion may add, or one check may read."""

    __slots__ = ("bytes", "pattern_text", "values")

    def __init__(self) -> None:
        self.values = ATTRIBUTES_VALUES
        self.bytes = ATTRIBUTES_BYTES
        self.pattern_text = PATTERN_TEXT

    def spend(self, values: int, size: int = 0) -> None:
        """Raises TooLarge."""
        self.values -= values
        self.bytes -= size
        if self.values < 0 or self.bytes < 0:
            raise TooLarge

    def has_defaults(self) -> bool:
        return self.bytes < ATTRIBUTES_BYTES


class Node:
    """One schema within a schema. Each value is checked alone, so that the first faults cost no more than themselves:
    jsonschema_rs looks for all faults before it returns the first, and copies the keyword for each."""

    __slots__ = (
        "_alone", "_keywords", "adds", "default", "has_patterns", "inner", "items", "missing", "properties", "schema",
    )  # fmt: skip

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.properties = {name: Node(inner) for name, inner in schema.get("properties", {}).items()}
        self.items = Node(schema["items"]) if "items" in schema else None
        self.default: Any = schema.get("default")  # completed by complete_defaults
        self.missing: dict[str, tuple[Any, int, int]] = {}  # by name: the default, its number of values, its bytes
        self.adds = False  # whether completing a value can change it
        self.inner = [*self.properties.values(), *([self.items] if self.items else [])]
        self.has_patterns: bool = "pattern" in schema or any(node.has_patterns for node in self.inner)
        self._alone: jsonschema_rs.Validator | None = None
        self._keywords: dict[str, _Keyword] = {}

    def complete_defaults(self, budget: Budget) -> None:
        """Completes each default with the defaults within it, innermost first. Raises TooLarge."""
        for inner in self.inner:
            inner.complete_defaults(budget)
        for name, inner in self.properties.items():
            if "default" in inner.schema:
                inner.default = inner.complete(inner.default, Budget())
                values, size = count_values(inner.default), (json_bytes({name: inner.default}) or 0)
                budget.spend(values, size)
                self.missing[name] = (inner.default, values, size)
        self.adds = bool(self.missing) or any(inner.adds for inner in self.inner)

    def complete(self, value: Any, budget: Budget) -> Any:
        if not self.adds:
            return value
        if isinstance(value, list):
            items = self.items
            if items is None or not items.adds:
                return value
            budget.spend(len(value))
            return [items.complete(item, budget) for item in value]
        if not isinstance(value, dict):
            return value
        budget.spend(len(value))
        properties = self.properties
        completed = {
            name: properties[name].complete(member, budget) if name in properties else member
            for name, member in value.items()
        }
        for name, (default, values, size) in self.missing.items():
            if name not in completed:
                budget.spend(values, size)
                completed[name] = _copy(default)
        return completed

    def violations(self, value: Any, at: str, budget: Budget) -> Iterator[Violation]:
        yield from self._violations_alone(value, at, budget)
        if isinstance(value, dict):
            for name in self.schema.get("required", ()):
                if name not in value:
                    yield Violation(pointer=pointer(at, name), detail="Is required.")
            is_open = self.schema.get("additionalProperties", True)
            for name, member in value.items():
                if name in self.properties:
                    yield from self.properties[name].violations(member, pointer(at, name), budget)
                elif not is_open:
                    yield Violation(pointer=pointer(at, name), detail="Is not an attribute of this template.")
        elif isinstance(value, list) and self.items:
            for index, item in enumerate(value):
                yield from self.items.violations(item, f"{at}/{index}", budget)

    def default_violations(self, at: str, budget: Budget) -> Iterator[Violation]:
        if "default" in self.schema:
            yield from self.violations(self.default, pointer(at, "default"), budget)
        for name, inner in self.properties.items():
            yield from inner.default_violations(pointer(at, "properties", name), budget)
        if self.items:
            yield from self.items.default_violations(pointer(at, "items"), budget)

    def _violations_alone(self, value: Any, at: str, budget: Budget) -> Iterator[Violation]:
        """By the keywords that limit the value itself. `pattern` is checked apart: it is the slow one."""
        if self._alone is None:
            self._alone = compile_schema(
                {word: limit for word, limit in self.schema.items() if word in DETAILS and word != "pattern"}
            )
        if not self._alone.is_valid(value):
            for word in self.schema:
                if word in DETAILS and word != "pattern":
                    yield from self._keyword(word).violations(value, at)
        yield from self._own_pattern(value, at, budget)

    def pattern_violations(self, value: Any, at: str, budget: Budget) -> Iterator[Violation]:
        """Only the violations of patterns. The value must satisfy all other keywords."""
        yield from self._own_pattern(value, at, budget)
        if isinstance(value, dict):
            for name, inner in self.properties.items():
                if inner.has_patterns and name in value:
                    yield from inner.pattern_violations(value[name], pointer(at, name), budget)
        elif isinstance(value, list) and self.items and self.items.has_patterns:
            for index, item in enumerate(value):
                yield from self.items.pattern_violations(item, f"{at}/{index}", budget)

    def _own_pattern(self, value: Any, at: str, budget: Budget) -> Iterator[Violation]:
        if "pattern" in self.schema and isinstance(value, str):
            if len(value) > budget.pattern_text:
                yield Violation(pointer=at, detail=_PATTERN_TEXT_TOO_LONG)
            else:
                budget.pattern_text -= len(value)
                yield from self._keyword("pattern").violations(value, at)

    def _keyword(self, word: str) -> "_Keyword":
        if word not in self._keywords:
            self._keywords[word] = _Keyword(word, self.schema[word])
        return self._keywords[word]


class _Keyword:
    """One keyword of one schema, compiled alone, with its sentence."""

    __slots__ = ("_detail", "_limit", "_validator", "_word")

    def __init__(self, word: str, limit: Any) -> None:
        self._word, self._limit = word, limit
        self._validator = compile_schema({word: limit})
        self._detail = None if word in OF_VALUE else DETAILS[word](limit, None)

    def violations(self, value: Any, at: str) -> Iterator[Violation]:
        if not self._validator.is_valid(value):
            yield Violation(pointer=at, detail=self._detail or DETAILS[self._word](self._limit, value))


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copy(member) for name, member in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def compile_schema(schema: Schema) -> jsonschema_rs.Validator:
    """Fetches nothing: `offline` is a second guard behind the allow-list. Patterns run in linear time."""
    return jsonschema_rs.Draft202012Validator(
        schema,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_CACHE_BYTES),
        validate_formats=True,
        ignore_unknown_formats=False,
        offline=True,
    )
