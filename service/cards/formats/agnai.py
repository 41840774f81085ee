"""Cards of Agnai. A persona of attributes becomes a description with a line for each."""

from typing import Any

from service.cards.formats.specs import CardContent, converted

_FIELDS = {
    "name": "name",
    "scenario": "scenario",
    "greeting": "first_mes",
    "sampleChat": "mes_example",
    "description": "creator_notes",
    "systemPrompt": "system_prompt",
    "postHistoryInstructions": "post_history_instructions",
    "alternateGreetings": "alternate_greetings",
    "tags": "tags",
    "creator": "creator",
    "characterVersion": "character_version",
    "extensions": "extensions",
}


def parse_agnai(document: dict[str, Any]) -> CardContent | None:
    if document.get("kind") != "character" and not ("persona" in document and "greeting" in document):
        return None
    card = converted(document, "Agnai", _FIELDS)
    card.data["description"] = _described(document.get("persona"))
    if book := _book(document.get("characterBook")):
        card.data["character_book"] = book
    return card


def _described(persona: Any) -> str:
    if isinstance(persona, str):
        return persona
    attributes = persona.get("attributes") if isinstance(persona, dict) else None
    if not isinstance(attributes, dict):
        return ""
    texts = {name: _line(value) for name, value in attributes.items()}
    if persona.get("kind") == "text" and len(texts) == 1:
        return next(iter(texts.values()))
    return "\n".join(f"{name}: {text}" for name, text in texts.items())


def _line(value: Any) -> str:
    return ", ".join(str(each) for each in value) if isinstance(value, list) else str(value)


def _book(book: Any) -> dict[str, Any] | None:
    """The entries with keywords of a memory book, as a lorebook. The original is kept in the extensions."""
    entries = book.get("entries") if isinstance(book, dict) else None
    if not isinstance(entries, list):
        return None
    made = [
        {
            "keys": entry["keywords"],
            "content": entry.get("entry", ""),
            "extensions": {},
            "enabled": bool(entry.get("enabled", True)),
            "insertion_order": number,
            "name": entry.get("name", ""),
        }
        for number, entry in enumerate(entries)
        if isinstance(entry, dict) and isinstance(entry.get("keywords"), list)
    ]
    return {"extensions": {}, "entries": made} if made else None
