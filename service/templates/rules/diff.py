"""Compares the schemas of two versions of a template, attribute by attribute.

The result is sound for the whole subset. If an attribute and everything within it has none of the kinds `narrowed`,
`retyped` and `required`, each value that was valid is still valid. If it has none of the kinds `widened`, `retyped` and
`optional`, each value that is valid now was valid before. A change that cannot be decided cheaply, such as a different
pattern, is both narrowed and widened.
"""

from collections.abc import Hashable, Iterable, Iterator
from fractions import Fraction
from math import inf
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from service.templates.rules.details import TYPES, abbreviated, abbreviated_list
from service.templates.rules.nodes import Schema
from service.validation import pointer

Kind = Literal["added", "removed", "retyped", "required", "narrowed", "optional", "widened", "default_changed"]
_KINDS = get_args(Kind)  # the most important first


class SchemaChange(msgspec.Struct, frozen=True):
    """All that changed of one attribute. `pointer` leads into a character, as in `/attributes/wits`; `*` stands for
    each item of a list. `change` is the most important of the `kinds`."""

    pointer: str
    change: Kind
    kinds: list[Kind]
    detail: str


class _Change(NamedTuple):
    pointer: str
    kind: Kind
    detail: str


def schema_changes(before: Schema, after: Schema) -> list[SchemaChange]:
    """The changes between two valid schemas, one for each attribute, in the order of their properties."""
    found: dict[str, list[_Change]] = {}
    for change in _changes(before, after, "/attributes"):
        found.setdefault(change.pointer, []).append(change)
    return [_merged(at, changes) for at, changes in found.items()]


def _merged(at: str, changes: Iterable[_Change]) -> SchemaChange:
    kinds = sorted({change.kind for change in changes}, key=_KINDS.index)
    details = dict.fromkeys(change.detail for change in changes)  # one may have both narrowed and widened
    return SchemaChange(at, kinds[0], kinds, " ".join(details))


def _changes(before: Schema, after: Schema, at: str) -> Iterator[_Change]:
    was, now = before.get("type"), after.get("type")
    if _default(before) != _default(after):
        yield _Change(at, "default_changed", _difference("default", _text(before, "default"), _text(after, "default")))
    if was and now and was != now and {was, now} != {"integer", "number"}:
        yield _Change(at, "retyped", f"Was {TYPES[was]} and is now {TYPES[now]}.")
        return
    for narrower, wider, detail in _comparisons(before, after):
        if narrower:
            yield _Change(at, "narrowed", detail)
        if wider:
            yield _Change(at, "widened", detail)
    yield from _property_changes(before, after, at)
    if "items" in before or "items" in after:
        yield from _changes(before.get("items", {}), after.get("items", {}), pointer(at, "*"))


def _property_changes(before: Schema, after: Schema, at: str) -> Iterator[_Change]:
    olds, news = before.get("properties", {}), after.get("properties", {})
    was_required, is_required = (dict.fromkeys(each.get("required", [])) for each in (before, after))
    for name in olds | news | was_required | is_required:
        here = pointer(at, name)
        if name in olds and name in news:
            yield from _changes(olds[name], news[name], here)
        elif name in news:
            yield _Change(here, "added", "Is new.")
            if not _is_open(before):
                yield _Change(here, "widened", "No value was accepted before.")
            elif _limits(news[name]):
                yield _Change(here, "narrowed", "Any value was accepted before.")
        elif name in olds:
            yield _Change(here, "removed", "Was removed.")
            if not _is_open(after):
                yield _Change(here, "narrowed", "No value is accepted now.")
            elif _limits(olds[name]):
                yield _Change(here, "widened", "Any value is accepted now.")
        if name in is_required and name not in was_required:
            yield _Change(here, "required", "Is required now.")
        if name in was_required and name not in is_required:
            yield _Change(here, "optional", "Is no longer required.")


def _comparisons(before: Schema, after: Schema) -> Iterator[tuple[bool, bool, str]]:
    """For each kind of limit: whether it is narrower, whether it is wider, and a sentence for it."""
    yield _types(before.get("type"), after.get("type"))
    yield _choices(before, after)
    for limit in _LIMITS:
        old, new = limit.strictness(before), limit.strictness(after)
        yield new > old, new < old, _difference(limit.noun, limit.text(old), limit.text(new))
    yield _steps(before, after)
    for keyword in ("pattern", "format"):
        was, now = before.get(keyword), after.get(keyword)
        yield now not in (None, was), was not in (None, now), _difference(keyword, was, now)
    yield _flags(
        before.get("uniqueItems", False),
        after.get("uniqueItems", False),
        "Items must differ from each other now.",
        "Items may repeat now.",
    )
    yield _flags(
        not _is_open(before),
        not _is_open(after),
        "Only the attributes named here are accepted now.",
        "Attributes not named here are accepted now.",
    )


def _types(was: str | None, now: str | None) -> tuple[bool, bool, str]:
    """For types that are equal, missing, or integer and number: the others count as retyped."""
    detail = _difference("type", TYPES[was] if was else None, TYPES[now] if now else None)
    narrower = now not in (None, was) and (was, now) != ("integer", "number")
    wider = was not in (None, now) and (was, now) != ("number", "integer")
    return narrower, wider, detail


def _choices(before: Schema, after: Schema) -> tuple[bool, bool, str]:
    old, new = _allowed(before), _allowed(after)
    narrower = new is not None and (old is None or not old.keys() <= new.keys())
    wider = old is not None and (new is None or not new.keys() <= old.keys())
    texts = (None if allowed is None else abbreviated_list(list(allowed.values())) for allowed in (old, new))
    return narrower, wider, _difference("list of choices", *texts)


def _allowed(schema: Schema) -> dict[Hashable, Any] | None:
    enum = {_key(value): value for value in schema["enum"]} if "enum" in schema else None
    if "const" not in schema:
        return enum
    const = _key(schema["const"])
    return {const: schema["const"]} if enum is None or const in enum else {}


def _steps(before: Schema, after: Schema) -> tuple[bool, bool, str]:
    was, now = before.get("multipleOf"), after.get("multipleOf")
    narrower = now is not None and (was is None or not _divides(now, was))
    wider = was is not None and (now is None or not _divides(was, now))
    return narrower, wider, _difference("step", _text(before, "multipleOf"), _text(after, "multipleOf"))


def _divides(small: float, great: float) -> bool:
    return (Fraction(str(great)) / Fraction(str(small))).denominator == 1


def _flags(was: bool, now: bool, narrower: str, wider: str) -> tuple[bool, bool, str]:
    return now and not was, was and not now, narrower if now else wider


def _limits(schema: Schema) -> bool:
    return any(keyword not in _ANNOTATIONS and not keyword.startswith("x-") for keyword in schema)


def _is_open(schema: Schema) -> bool:
    return bool(schema.get("additionalProperties", True))


def _difference(noun: str, was: str | None, now: str | None) -> str:
    if was is None:
        return f"Now has a {noun}: {now}."
    if now is None:
        return f"No longer has a {noun}: it was {was}."
    return f"The {noun} was {was} and is now {now}."


def _text(schema: Schema, keyword: str) -> str | None:
    return abbreviated(schema[keyword]) if keyword in schema else None


def _default(schema: Schema) -> Hashable:
    return _key([schema["default"]] if "default" in schema else [])


def _key(value: Any) -> Hashable:
    """Keys are equal if JSON Schema calls the values equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return frozenset((name, _key(member)) for name, member in value.items())
    if isinstance(value, list):
        return tuple(_key(item) for item in value)
    return (type(value), value) if isinstance(value, bool) else value


class _Limit(NamedTuple):
    noun: str
    sign: int  # 1 for a minimum, -1 for a maximum
    loosest: float
    keywords: tuple[str, ...]

    def strictness(self, schema: Schema) -> tuple[float, bool]:
        """Greater is stricter. Of two limits with the same number, the exclusive one is stricter."""
        given = ((self.sign * schema[word], word.startswith("exclusive")) for word in self.keywords if word in schema)
        return max(given, default=(self.loosest, False))

    def text(self, strictness: tuple[float, bool]) -> str | None:
        number, excluded = strictness
        if number == self.loosest:
            return None
        return f"{abbreviated(self.sign * number)}{', exclusive' if excluded else ''}"


_LIMITS = (
    _Limit("minimum", 1, -inf, ("minimum", "exclusiveMinimum")),
    _Limit("maximum", -1, -inf, ("maximum", "exclusiveMaximum")),
    _Limit("minimum length", 1, 0, ("minLength",)),
    _Limit("maximum length", -1, -inf, ("maxLength",)),
    _Limit("minimum number of items", 1, 0, ("minItems",)),
    _Limit("maximum number of items", -1, -inf, ("maxItems",)),
)
_ANNOTATIONS = {"title", "description", "default", "examples"}
