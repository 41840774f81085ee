"""Prompts with placeholders: `{name}` is replaced by a field or an attribute, `{stats.hp}` by a nested attribute.

`{{…}}` is not a placeholder: it is left unchanged, with its braces, for the program that reads the prompt.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from service.errors import MAX_VIOLATIONS, Violation

FIELDS = ("name", "description", "style", "tags")
RENDERED_LENGTH = 100_000  # characters; the rest is cut off, as each placeholder may be replaced by 64 KiB

# An unclosed `{{` matches all that follows, so that each character is read only once.
_TOKEN = re.compile(r"(?P<escaped>\{\{.*?(?:\}{2,}|\Z))|\{(?P<name>[^{}]*)\}|(?P<stray>[{}])", re.DOTALL)


class Rendered(msgspec.Struct, frozen=True):
    prompt: str
    missing: list[str]
    unknown: list[str]


def placeholders(prompt: str) -> list[str]:
    """The names of the placeholders, each once, in the order of their first use."""
    return list(dict.fromkeys(token["name"] for token in _TOKEN.finditer(prompt) if token["name"] is not None))


def prompt_violations(prompt: str, schema: Mapping[str, Any]) -> list[Violation]:
    """All faults of a prompt with this schema, at most MAX_VIOLATIONS."""
    found = []
    if any(token["stray"] or _is_unclosed(token) for token in _TOKEN.finditer(prompt)):
        found.append("A brace is not balanced; write {name} for a placeholder.")
    found += [
        f"{{{name}}} is neither an attribute of the schema nor one of: {', '.join(FIELDS)}."
        for name in placeholders(prompt)
        if name not in FIELDS and not _has_property(schema, name)
    ]
    return [Violation(pointer="/prompt", detail=detail) for detail in found[:MAX_VIOLATIONS]]


def render(prompt: str, values: Mapping[str, Any], schema: Mapping[str, Any] | None = None) -> Rendered:
    """Replaces the placeholders once: braces in the values are left unchanged.

    `values` are the attributes of the character, overlaid with its fields. A placeholder without a value is `missing`
    and removed if its name is a field, an attribute or in the schema. Otherwise it is `unknown` and left unchanged.
    """
    texts, missing, unknown = {}, [], []
    for name in placeholders(prompt):
        is_known, value = _look_up(values, name)
        if value not in _EMPTY:
            texts[name] = _text(value)
        elif is_known or name in FIELDS or (schema is not None and _has_property(schema, name)):
            texts[name] = ""
            missing.append(name)
        else:
            unknown.append(name)
    return Rendered(prompt=_filled(prompt, texts), missing=missing, unknown=unknown)


def _filled(prompt: str, texts: Mapping[str, str]) -> str:
    room = RENDERED_LENGTH

    def text(token: re.Match[str]) -> str:
        nonlocal room
        filled = texts.get(token["name"], token[0])[:room]
        room -= len(filled)
        return filled

    return _TOKEN.sub(text, prompt)


def _look_up(values: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    """Whether there is a value, and the value. Names may contain dots, so the whole name is tried first."""
    if name in values:
        return True, values[name]
    inner: Any = values
    for step in name.split("."):
        if not isinstance(inner, Mapping) or step not in inner:
            return False, None
        inner = inner[step]
    return True, inner


def _has_property(schema: Mapping[str, Any], name: str) -> bool:
    if name in schema.get("properties", {}):
        return True
    for step in name.split("."):
        if step not in schema.get("properties", {}):
            return False
        schema = schema["properties"][step]
    return True


def _is_unclosed(token: re.Match[str]) -> bool:
    return token["escaped"] is not None and not token["escaped"].endswith("}}")


def _text(value: Any) -> str:
    """The value as text: a list is joined by commas, an object becomes a list of `name: value`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_text(member)}" for name, member in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return "" if value is None else str(value)


_EMPTY: tuple[object, ...] = (None, "", [], (), {})
