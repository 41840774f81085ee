"""Prompts with placeholders: `{name}` stands for a field or an attribute, `{stats.hp}` for a nested one.

`{{…}}` belongs to whoever reads the prompt next and passes through as written, braces included.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from service.errors import MAX_VIOLATIONS, Violation

FIELDS = ("name", "description", "style", "tags")
RENDERED_LENGTH = 100_000  # the rest is cut off: a thousand placeholders may each stand for 64 KiB

# An unclosed `{{` takes all that follows, so that no character is looked at twice.
_TOKEN = re.compile(r"(?P<untouched>\{\{.*?(?:\}{2,}|\Z))|\{(?P<name>[^{}]*)\}|(?P<stray>[{}])", re.DOTALL)


class Rendered(msgspec.Struct, frozen=True):
    prompt: str
    missing: list[str]
    unknown: list[str]


def placeholders(prompt: str) -> list[str]:
    """The names, each once, in the order they first appear."""
    return list(dict.fromkeys(token["name"] for token in _TOKEN.finditer(prompt) if token["name"] is not None))


def prompt_violations(prompt: str, schema: Mapping[str, Any], at: str = "/prompt") -> list[Violation]:
    """What keeps a prompt from being published with this schema; at most a hundred unknown names."""
    found = []
    if any(token["stray"] or _is_unclosed(token) for token in _TOKEN.finditer(prompt)):
        found.append("A brace is not balanced; write {name} for a placeholder.")
    found += [
        f"{{{name}}} is neither an attribute of the schema nor one of: {', '.join(FIELDS)}."
        for name in placeholders(prompt)
        if name not in FIELDS and not _is_ruled(schema, name)
    ]
    return [Violation(pointer=at, detail=detail) for detail in found[:MAX_VIOLATIONS]]


def render(prompt: str, values: Mapping[str, Any], schema: Mapping[str, Any] | None = None) -> Rendered:
    """Fills in the placeholders once: braces in a value stay as they are.

    `values` are the character's attributes overlaid with its fields. A name that has no value here is missing if it
    is a field, is among the values or is in the schema, and leaves nothing in its place; any other is unknown and
    stays as written.
    """
    texts, missing, unknown = {}, [], []
    for name in placeholders(prompt):
        is_known, value = _look_up(values, name)
        if value not in _EMPTY:
            texts[name] = _text(value)
        elif is_known or name in FIELDS or (schema is not None and _is_ruled(schema, name)):
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
    """An attribute may have a dot in its own name, so the whole name is tried before its parts."""
    if name in values:
        return True, values[name]
    inner: Any = values
    for step in name.split("."):
        if not isinstance(inner, Mapping) or step not in inner:
            return False, None
        inner = inner[step]
    return True, inner


def _is_ruled(schema: Mapping[str, Any], name: str) -> bool:
    if name in schema.get("properties", {}):
        return True
    for step in name.split("."):
        if step not in schema.get("properties", {}):
            return False
        schema = schema["properties"][step]
    return True


def _is_unclosed(token: re.Match[str]) -> bool:
    return token["untouched"] is not None and not token["untouched"].endswith("}}")


def _text(value: Any) -> str:
    """As in a sentence; an object as `name: value`, joined like a list."""
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
