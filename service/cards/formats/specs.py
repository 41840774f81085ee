"""Character Cards V1, V2 and V3: recognises them, and converts other dialects to them.

All other data of a card is stored and exported unchanged.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from service.cards.formats.json import check_values, write_document
from service.errors import Unprocessable, Violation
from service.validation import pointer

VERSION_LENGTH = 32

Spec = Literal["v1", "v2", "v3"]

NAMES = {"v2": "chara_card_v2", "v3": "chara_card_v3"}
VERSIONS = {"v1": "1.0", "v2": "2.0", "v3": "3.0"}

_SPECS: dict[str, Spec] = {"chara_card_v2": "v2", "chara_card_v3": "v3"}
_V1 = ("name", "description", "personality", "scenario", "first_mes", "mes_example")
_V2 = (*_V1, "creator_notes", "system_prompt", "post_history_instructions", "creator", "character_version")
_ONLY_CARDS = {"personality", "first_mes", "mes_example"}
_FIELDS = {*_V2, "alternate_greetings", "tags", "character_book", "extensions", "group_only_greetings", "nickname"}
_TEXTS = {*_V2} - {"character_version"}  # many writers use a number for that one


class CardContent(msgspec.Struct):
    """``data`` is the card's ``data``; for V1, which has no such member, the whole document."""

    spec: Spec
    spec_version: str
    data: dict[str, Any]
    notes: list[str] = []


def parse_envelope(document: dict[str, Any]) -> CardContent | None:
    """A card of V2, V3 or a later version: its fields are in ``data``."""
    data, name = document.get("data"), document.get("spec")
    if not isinstance(data, dict) or not data.keys() & _FIELDS:
        return None
    spec = _SPECS.get(name) if isinstance(name, str) else None
    version = str(document.get("spec_version") or VERSIONS[spec or "v3"])[:VERSION_LENGTH]
    card = CardContent(spec or "v3", version, dict(data))
    if spec is None:
        card.notes.append("The card's specification is unknown; it was read as V3.")
    if card.spec == "v3" and "group_only_greetings" not in data:
        card.notes.append("'group_only_greetings' is missing; it is exported as an empty list.")
    others = document.keys() - {"spec", "spec_version", "data"}
    if ignored := {each for each in others if each not in _V1 or document[each] != data.get(each)}:
        card.notes.append(f"Members beside 'data' were ignored: {_listed(ignored)}.")
    return card


def parse_v1(document: dict[str, Any]) -> CardContent | None:
    """A flat card. Its name may be missing if it has what only a card has."""
    is_card = document.keys() & _ONLY_CARDS or {"name", "description"} <= document.keys()
    if not is_card:
        return None
    card = CardContent("v1", VERSIONS["v1"], dict(document))
    if document.get("spec") is not None:
        card.notes.append("The card names a specification but has no 'data'; it was read as V1.")
    if missing := [name for name in _V1 if name not in document]:
        card.notes.append(f"Missing fields were read as empty: {', '.join(missing)}.")
    return card


def converted(
    document: Mapping[str, Any], dialect: str, fields: Mapping[str, str], keep: Iterable[str] = ()
) -> CardContent:
    """A V2 card of a document in another dialect, whose ``fields`` are the names in the document and in the card.

    Members that no field takes, and those of ``keep``, are in the extensions under the name of the dialect.
    """
    data = required_fields() | {
        name: document[theirs] for theirs, name in fields.items() if document.get(theirs) is not None
    }
    others = {name: value for name, value in document.items() if name not in fields or name in keep}
    extensions = data["extensions"] if isinstance(data["extensions"], dict) else {}
    data["extensions"] = extensions | {dialect.lower(): others}
    return CardContent("v2", VERSIONS["v2"], data, [f"The card of {dialect} was converted to V2."])


def check_types(card: CardContent) -> None:
    """Corrects wrong types that can be understood, each with a note. Raises Unprocessable for others."""
    data, notes = card.data, card.notes
    for name in sorted(_TEXTS & data.keys()):  # the order of the notes
        value = data[name]
        if isinstance(value, bool | int | float):
            data[name] = write_document(value)
            notes.append(f"'{name}' was a number or truth value; it was read as a text.")
        elif name == "description" and isinstance(value, list) and all(isinstance(each, str) for each in value):
            data[name] = "\n".join(value)
            notes.append("'description' was a list; it was read as lines of a text.")
    if isinstance(tags := data.get("tags"), str):
        check_values(tags.count(","))
        data["tags"] = [tag.strip() for tag in tags.split(",") if tag.strip()]
        notes.append("'tags' was a text; it was read as a list.")
    if (tags := data.get("tags")) == {}:
        data["tags"] = []
        notes.append("'tags' was an object; it was read as an empty list.")
    if data.get("extensions") in ([], ""):
        data["extensions"] = {}
        notes.append("'extensions' was not an object; it was read as an empty one.")
    if isinstance(data.get("alternate_greetings"), str):
        data["alternate_greetings"] = [data["alternate_greetings"]]
        notes.append("'alternate_greetings' was a text; it was read as a list of one.")
    at = "" if card.spec == "v1" else "/data"
    if faults := list(_wrong_types(data, at)):
        raise Unprocessable.of(faults)


def with_required(data: dict[str, Any], spec: Literal["v2", "v3"], *, since: Spec) -> dict[str, Any]:
    """``data`` of a card of the specification ``since``, with empty values for what ``spec`` requires."""
    required: dict[str, Any] = {} if spec == since else required_fields()
    if spec == "v3":
        required["group_only_greetings"] = []  # V3 requires it, but common writers omit it
    return data | {name: empty for name, empty in required.items() if name not in data}


def data_of_new_card(character: Mapping[str, Any], icon: str) -> dict[str, Any]:
    """The V3 ``data`` of a character that was not imported: its columns and its owner's ``username``."""
    return required_fields() | {
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


def card_document(data: dict[str, Any], spec: Literal["v2", "v3"], spec_version: str | None = None) -> dict[str, Any]:
    return {"spec": NAMES[spec], "spec_version": spec_version or VERSIONS[spec], "data": data}


def with_v1(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the fields of V1 also beside ``data``, for readers that know only V1."""
    return document | {name: document["data"][name] for name in _V1 if isinstance(document["data"].get(name), str)}


def required_fields() -> dict[str, Any]:
    """The fields that V2 requires, with empty values."""
    return dict.fromkeys(_V2, "") | {"alternate_greetings": [], "tags": [], "extensions": {}}


def _wrong_types(data: dict[str, Any], at: str) -> Iterable[Violation]:
    expected = {"name": str, "description": str, "tags": list, "extensions": dict}
    words = {str: "a string", list: "a list", dict: "an object"}
    for name, kind in expected.items():
        if not isinstance(data.get(name), kind | None):
            yield Violation(f"Must be {words[kind]}.", pointer=pointer(at, name))


def _listed(names: Iterable[str]) -> str:
    shown = sorted(name[:40] for name in names)
    return ", ".join(shown[:10]) + (" …" if len(shown) > 10 else "")
