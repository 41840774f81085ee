"""Applies the schema of a template to attributes: completes them with defaults and finds their faults."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from service.errors import Violation
from service.templates.rules.bounds import (
    ATTRIBUTES_BYTES,
    ATTRIBUTES_VALUES,
    bounds_violations,
    json_bytes,
    size_fault,
)
from service.templates.rules.nodes import Budget, Node, Schema, TooLarge, compile_schema
from service.validation import pointer, reported

_AT = "/attributes"  # where a client sends them
_SIZE = f"{ATTRIBUTES_VALUES:,} values, nested ones included, and {ATTRIBUTES_BYTES // 1024} KiB as JSON"
_TOO_LARGE = f"With the template's defaults, must hold at most {_SIZE}."
_DEFAULTS_TOO_LARGE = f"All defaults, each with the defaults within it, must together hold at most {_SIZE}."


class Rules:
    """Made from a valid schema (see `schema_violations`). May be shared."""

    __slots__ = ("_root", "_too_large", "_whole")

    def __init__(self, schema: Schema) -> None:
        self._root = Node(schema)
        self._whole = compile_schema(_without_patterns(schema))
        self._too_large = False
        try:
            self._root.complete_defaults(Budget())
        except TooLarge:  # publication refuses such a schema
            self._too_large = True

    def check(self, attributes: dict[str, Any]) -> tuple[dict[str, Any], list[Violation]]:
        """The completed attributes and their faults. Attributes that are too large are returned as they are."""
        if fault := size_fault(attributes):
            return attributes, [Violation(pointer=_AT, detail=fault)]
        budget = Budget()
        try:
            completed = self.complete(attributes, budget)
        except TooLarge:
            return attributes, [Violation(pointer=_AT, detail=_TOO_LARGE)]
        return completed, self.violations(completed, is_small=not budget.has_defaults())

    def complete(self, attributes: dict[str, Any], budget: Budget | None = None) -> dict[str, Any]:
        """With the defaults of missing members, including those within existing objects and lists.

        Does not change the argument, but shares values with it. Raises TooLarge before it makes more than attributes
        may hold.
        """
        if self._too_large:
            raise TooLarge
        completed: dict[str, Any] = self._root.complete(attributes, budget or Budget())
        return completed

    def violations(self, attributes: dict[str, Any], *, is_small: bool = False) -> list[Violation]:
        """The faults that are reported: by the bounds of all attributes and by this schema. ``is_small`` says that
        the attributes are known to be small enough."""
        found = bounds_violations(attributes, _AT, is_small=is_small)
        if found and (size_fault(attributes) or json_bytes(attributes) is None):
            return found
        return reported(chain(found, self.rule_violations(attributes, _AT)))

    def rule_violations(self, value: object, at: str) -> Iterator[Violation]:
        if self._whole.is_valid(value):  # as most are: this takes a fifth of the time of checking each value
            return self._root.pattern_violations(value, at, Budget())
        return self._root.violations(value, at, Budget())

    def default_violations(self, at: str) -> Iterator[Violation]:
        """The faults of the defaults of the schema itself, which is at ``at``."""
        if self._too_large:
            yield Violation(pointer=at, detail=_DEFAULTS_TOO_LARGE)
        else:
            yield from self._root.default_violations(at, Budget())


def _without_patterns(schema: Schema) -> Schema:
    rest = {word: limit for word, limit in schema.items() if word != "pattern"}
    if "properties" in rest:
        rest["properties"] = {name: _without_patterns(inner) for name, inner in rest["properties"].items()}
    if "items" in rest:
        rest["items"] = _without_patterns(rest["items"])
    return rest


def null_choices(schema: Schema, at: str) -> Iterator[Violation]:
    """The nulls that a valid schema offers as the value of an attribute: null removes one, at any depth of objects. A
    list keeps its nulls, so the schemas of items are not searched."""
    for name, inner in schema.get("properties", {}).items():
        here = pointer(at, "properties", name)
        choices = enumerate(inner.get("enum", []))
        nulls = [pointer(here, "enum", index) for index, value in choices if value is None]
        if "const" in inner and inner["const"] is None:
            nulls.append(pointer(here, "const"))
        for null in nulls:
            yield Violation("Null cannot be sent: it removes an attribute. Leave the attribute out.", pointer=null)
        yield from null_choices(inner, here)
