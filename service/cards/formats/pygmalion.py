"""Cards of Pygmalion and of text-generation-webui."""

from typing import Any

from service.cards.formats.specs import CardContent, converted

_PYGMALION = {
    "char_name": "name",
    "char_persona": "description",
    "world_scenario": "scenario",
    "char_greeting": "first_mes",
    "example_dialogue": "mes_example",
}
_TEXT_GENERATION = {
    "name": "name",
    "context": "description",
    "greeting": "first_mes",
    "example_dialogue": "mes_example",
}


def parse_pygmalion(document: dict[str, Any]) -> CardContent | None:
    if not document.keys() & {"char_name", "char_persona", "char_greeting"}:
        return None
    return converted(document, "Pygmalion", _PYGMALION)


def parse_text_generation(document: dict[str, Any]) -> CardContent | None:
    if "name" not in document or not document.keys() & {"context", "greeting"}:
        return None
    return converted(document, "text-generation-webui", _TEXT_GENERATION)
