"""Character Cards V1, V2 and V3: which one a document is, and what of it a character has as its own.

What a card says beyond that is neither judged nor changed, so that it leaves as it came.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from service.cards.formats.json import is_unchanged, written_document
from service.errors import Unprocessable, Violation
from service.schemas import DESCRIPTION_LENGTH, EXTENSIONS_SIZE, MOST_TAGS, NAME_LENGTH, TAG_LENGTH, UNPRINTABLE
from service.validation import pointer

VERSION_LENGTH = 32
NAMELESS = "Unnamed"  # a character whose card has an empty name

Spec = Literal["v1", "v2", "v3"]

NAMES = {"v2": "chara_card_v2", "v3": "chara_card_v3"}
VERSIONS = {"v1": "1.0", "v2": "2.0", "v3": "3.0"}

_SPECS: dict[str, Spec] = {"chara_card_v2": "v2", "chara_card_v3": "v3"}
_V1 = ("name", "description", "personality", "scenario", "first_mes", "mes_example")
_V2 = (*_V1, "creator_notes", "system_prompt", "post_history_instructions", "creator", "character_version")
_COLUMNS = ("name", "description", "tags")
_UNPRINTABLE = re.compile(UNPRINTABLE)


class CardContent(msgspec.Struct):
    """``data`` is the card's, whole; of V1 that is the document."""

    spec: Spec
    spec_version: str
    data: dict[str, Any]
    notes: list[str] = []


class Own(msgspec.Struct):
    """What of a card is the character's own; ``notes`` say what became of what does not fit."""

    name: str
    description: str
    tags: list[str]
    extensions: dict[str, Any]
    notes: list[str] = []


def card_of(document: dict[str, Any]) -> CardContent:
    """Raises Unprocessable for what is no card, or has a name, description, tags or extensions of a wrong type."""
    data, spec = document.get("data"), document.get("spec")
    if isinstance(data, dict):
        card = _enveloped(document, data)
    elif "name" in document and document.keys() & {*_V1[1:]}:
        card = CardContent("v1", VERSIONS["v1"], document)
        if spec is not None:
            card.notes.append("The card says that it is more than V1, but has no data: it was read as V1.")
        if missing := [name for name in _V1 if name not in document]:
            card.notes.append(f"Missing, and taken as empty: {', '.join(missing)}.")
    else:
        raise Unprocessable("This JSON is no Character Card: it has neither data nor the fields of V1.")
    at = "" if card.spec == "v1" else "/data"
    if faults := list(_wrong_types(card.data, at)):
        raise Unprocessable.of(faults)
    return card


def own_of(data: Mapping[str, Any]) -> Own:
    """Exports compare with this, to tell what was edited: the same data must give the same for ever."""
    own = Own(data.get("name") or "", data.get("description") or "", [], data.get("extensions") or {})
    own.name = _name(own.name, own.notes)
    if len(own.description) > DESCRIPTION_LENGTH:
        own.description = own.description[:DESCRIPTION_LENGTH]
        own.notes.append(f"The character's description ends after {DESCRIPTION_LENGTH:,} characters; the card has all.")
    own.tags = _tags(data.get("tags") or [], own.notes)
    if len(written_document(own.extensions).encode()) > EXTENSIONS_SIZE:
        own.extensions = {}
        own.notes.append(f"The extensions are larger than {EXTENSIONS_SIZE // 1024} KiB: only the card has them.")
    return own


def laid_over(data: dict[str, Any], character: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with the fields of the ``character`` (columns) that were edited since it was imported."""
    before = own_of(data)
    edited = {
        name: character[name] for name in ("name", "description", "tags") if character[name] != getattr(before, name)
    }
    if not is_unchanged(before.extensions, character["extensions"]):
        edited["extensions"] = msgspec.json.decode(character["extensions"])
    return data | edited


def completed(data: dict[str, Any], spec: Literal["v2", "v3"], *, since: Spec) -> dict[str, Any]:
    """``data``, a card's of ``since``, as ``spec`` asks for it: what that card was free to leave out is empty."""
    required: dict[str, Any] = {} if spec == since else _empty()
    if spec == "v3":
        required["group_only_greetings"] = []  # common writers omit it, though V3 asks for it
    return data | {name: empty for name, empty in required.items() if name not in data}


def born_here(character: Mapping[str, Any], icon: str) -> dict[str, Any]:
    """The V3 ``data`` of a character (columns, and its owner's ``username``) that never was a card."""
    return _empty() | {
        "name": character["name"],
        "description": character["description"],
        "tags": character["tags"],
        "extensions": msgspec.json.decode(character["extensions"]),
        "creator": character["username"],
        "character_version": str(character["version"]),
        "group_only_greetings": [],
        "creation_date": int(character["created_at"].timestamp()),
        "modification_date": int(character["updated_at"].timestamp()),
        "assets": [{"type": "icon", "uri": icon, "name": "main", "ext": "png"}],
    }


def document_of(data: dict[str, Any], spec: Literal["v2", "v3"], spec_version: str | None = None) -> dict[str, Any]:
    return {"spec": NAMES[spec], "spec_version": spec_version or VERSIONS[spec], "data": data}


def _empty() -> dict[str, Any]:
    return dict.fromkeys(_V2, "") | {"alternate_greetings": [], "tags": [], "extensions": {}}


def _enveloped(document: dict[str, Any], data: dict[str, Any]) -> CardContent:
    name = document.get("spec")
    spec = _SPECS.get(name) if isinstance(name, str) else None
    card = CardContent(spec or "v3", str(document.get("spec_version") or VERSIONS[spec or "v3"])[:VERSION_LENGTH], data)
    if spec is None:
        card.notes.append("The card names no specification that is known here: it was read as V3.")
    if card.spec == "v3" and "group_only_greetings" not in data:
        card.notes.append("group_only_greetings was missing: it is exported as an empty list.")
    if beside := document.keys() - {"spec", "spec_version", "data"}:
        card.notes.append(f"What stands beside data was left out: {_listed(beside)}.")
    return card


def _wrong_types(data: dict[str, Any], at: str) -> Iterable[Violation]:
    wanted = {"name": str, "description": str, "tags": list, "extensions": dict}
    told = {str: "a string", list: "a list", dict: "an object"}
    for name, kind in wanted.items():
        if not isinstance(data.get(name), kind | None):
            yield Violation(f"Must be {told[kind]}.", pointer=pointer(at, name))


def _name(name: str, notes: list[str]) -> str:
    plain = _UNPRINTABLE.sub(" ", name)
    if not plain.strip():
        notes.append(f"The name is empty: the character is called {NAMELESS}, the card stays as it is.")
        return NAMELESS
    if plain != name:
        notes.append("Control characters in the character's name became spaces; the card has them.")
    if len(plain) > NAME_LENGTH:
        notes.append(f"The character's name ends after {NAME_LENGTH} characters; the card has all of it.")
    return plain[:NAME_LENGTH]


def _tags(given: list[Any], notes: list[str]) -> list[str]:
    """Those that fit, each once whatever its case."""
    kept: dict[str, str] = {}
    for tag in given:
        text = tag if isinstance(tag, str) else ""
        if 0 < len(text) <= TAG_LENGTH and not _UNPRINTABLE.search(text):
            kept.setdefault(text.casefold(), text)
    tags = [*kept.values()][:MOST_TAGS]
    if len(tags) < len(given):
        notes.append(
            f"{len(given) - len(tags)} of {len(given)} tags are repeated, unfit or too many: only the card has them."
        )
    return tags


def _listed(names: Iterable[str]) -> str:
    shown = sorted(name[:40] for name in names)
    return ", ".join(shown[:10]) + (" …" if len(shown) > 10 else "")
