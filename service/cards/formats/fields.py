"""The fields of a character that come from a card: name, description, tags and extensions."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from service.cards.formats.json import equals_stored, write_document
from service.cards.formats.specs import CardContent
from service.errors import Unprocessable, Violation
from service.schemas import (
    EXTENSIONS_SIZE,
    LONG_DESCRIPTION_LENGTH,
    MOST_TAGS,
    NAME_LENGTH,
    TAG_LENGTH,
    UNPRINTABLE,
    VISIBLE,
)
from service.text.folding import tag_key
from service.text.json_values import stored_size
from service.validation import pointer, reported

DEFAULT_NAME = "Unnamed"  # of a character whose card has an empty name

_UNPRINTABLE = re.compile(UNPRINTABLE)


class CharacterFields(msgspec.Struct):
    """The columns of a character that come from a card; ``notes`` say what of the card they cannot hold."""

    name: str
    description: str
    tags: list[str]
    extensions: dict[str, Any]
    notes: list[str] = []


def character_fields(data: Mapping[str, Any]) -> CharacterFields:
    """Exports compare with the result to find edits: the same data must always give the same result."""
    fields = CharacterFields(data.get("name") or "", data.get("description") or "", [], data.get("extensions") or {})
    fields.name = _name(fields.name, fields.notes)
    fields.tags = _tags(data.get("tags") or [], fields.notes)
    return fields


def check_bounds(card: CardContent, fields: CharacterFields) -> None:
    """Raises Unprocessable if a character cannot hold a field of the card."""
    at = "" if card.spec == "v1" else "/data"
    found = (Violation(detail, pointer=pointer(at, *path)) for path, detail in _too_large(card.data, fields))
    if faults := reported(found):
        raise Unprocessable.of(faults)


def with_edits(data: dict[str, Any], character: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with the columns of ``character`` that were edited since the import. Tags that the character could not
    hold follow the edited ones."""
    before = character_fields(data)
    once = _as_once_cut(before)
    edited = {
        name: character[name]
        for name in ("name", "description", "tags")
        if character[name] not in (getattr(before, name), getattr(once, name))
    }
    if "tags" in edited:
        held = {tag_key(tag) for tag in before.tags}
        given = data.get("tags") or []
        edited["tags"] = character["tags"] + [
            tag for tag in given if not isinstance(tag, str) or tag_key(tag) not in held
        ]
    if not any(equals_stored(each.extensions, character["extensions"]) for each in (before, once)):
        edited["extensions"] = msgspec.json.decode(character["extensions"])
    return data | edited


def _too_large(data: Mapping[str, Any], fields: CharacterFields) -> Iterable[tuple[tuple[str | int, ...], str]]:
    """The path of each field that is too large, and its bound."""
    for name, bound in (("name", NAME_LENGTH), ("description", LONG_DESCRIPTION_LENGTH)):
        if len(getattr(fields, name)) > bound:
            yield (name,), f"Must be at most {bound} characters."
    if len(fields.tags) > MOST_TAGS:
        yield ("tags",), f"Must have at most {MOST_TAGS} items."
    for index, tag in enumerate(data.get("tags") or []):
        if isinstance(tag, str) and len(tag) > TAG_LENGTH:
            yield ("tags", index), f"Must be at most {TAG_LENGTH} characters."
    if stored_size(fields.extensions, write_document(fields.extensions)) > EXTENSIONS_SIZE:
        yield ("extensions",), f"Must be at most {EXTENSIONS_SIZE // 1024} KiB of JSON."


def _as_once_cut(fields: CharacterFields) -> CharacterFields:
    """The fields as imports cut them when a character's bounds were smaller. Such a character was not edited."""
    kept = stored_size(fields.extensions, write_document(fields.extensions)) <= EXTENSIONS_SIZE
    tags = [tag for tag in fields.tags if len(tag) <= 50][:20]
    name = fields.name[:120] if VISIBLE.search(fields.name[:120]) else DEFAULT_NAME
    return CharacterFields(name, fields.description[:10_000], tags, fields.extensions if kept else {})


def _name(name: str, notes: list[str]) -> str:
    plain = _UNPRINTABLE.sub(" ", name)
    if not VISIBLE.search(plain):
        notes.append(f"The name is empty; the character is called {DEFAULT_NAME}, and the card is unchanged.")
        return DEFAULT_NAME
    if plain != name:
        notes.append("Control characters in the character's name were replaced by spaces; the card keeps them.")
    return plain


def _tags(given: list[Any], notes: list[str]) -> list[str]:
    """The valid tags; of tags that differ only in case, the first."""
    valid: dict[str, str] = {}
    for tag in given:
        text = tag if isinstance(tag, str) else ""
        if VISIBLE.search(text) and not _UNPRINTABLE.search(text):
            valid.setdefault(tag_key(text), text)
    if len(valid) < len(given):
        count = f"{len(given) - len(valid)} of {len(given)} tags"
        notes.append(f"{count} are repeated or not valid; only the card keeps them.")
    return [*valid.values()]
