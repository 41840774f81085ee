"""Characters of Backyard: BYAF, a zip whose manifest names the files of a character and of its scenarios."""

from collections.abc import Iterator, Mapping
from typing import Any

from service.cards.formats.json import check_size, check_values, read_document
from service.cards.formats.specs import CardContent, converted
from service.errors import Unprocessable

MANIFEST = "manifest.json"
MAX_SCENARIOS = 100

_FIELDS = {"name": "name", "persona": "description"}
_PLACEHOLDERS = {"#{user}:": "{{user}}:", "#{character}:": "{{char}}:", "{user}": "{{user}}", "{character}": "{{char}}"}


def read_byaf(files: Mapping[str, bytes]) -> dict[str, Any]:
    """One document with the first character and its scenarios. Raises Unprocessable if a file is not there."""
    manifest = _document(files, MANIFEST)
    characters = _paths(manifest, "characters")
    if not characters:
        raise Unprocessable("This is not a Character Card: its manifest names no character.")
    scenarios = [*dict.fromkeys(_paths(manifest, "scenarios"))][:MAX_SCENARIOS]
    check_size([files.get(path, b"") for path in dict.fromkeys((MANIFEST, characters[0], *scenarios))])
    return {
        "manifest": manifest,
        "character": _document(files, characters[0]),
        "scenarios": [_document(files, path) for path in scenarios],
        "omitted": len(characters) - 1,
    }


def picture_paths(document: Mapping[str, Any], at: str) -> Iterator[str]:
    """The paths of the character's pictures, which are relative to ``at``, the folder of the character."""
    images = document["character"].get("images")
    for image in images if isinstance(images, list) else ():
        path = image.get("path") if isinstance(image, dict) else None
        if isinstance(path, str):
            yield f"{at}/{path}" if at else path
            yield path


def character_folder(document: Mapping[str, Any]) -> str:
    return _paths(document["manifest"], "characters")[0].rpartition("/")[0]


def parse_backyard(document: dict[str, Any]) -> CardContent | None:
    character, scenarios = document.get("character"), document.get("scenarios")
    if not isinstance(character, dict) or not isinstance(scenarios, list) or "manifest" not in document:
        return None
    card = converted(character, "Backyard", _FIELDS, keep={"name"})
    data = card.data
    data["name"] = character.get("displayName") or character.get("name") or ""
    data["extensions"]["backyard"] |= {"manifest": document["manifest"], "scenarios": scenarios}
    told = [scenario for scenario in scenarios if isinstance(scenario, dict)]
    first = told[0] if told else {}
    data["scenario"] = first.get("narrative") or ""
    data["system_prompt"] = first.get("formattingInstructions") or ""
    data["mes_example"] = "\n".join(_texts(first.get("exampleMessages")))
    greetings = [text for scenario in told for text in _texts(scenario.get("firstMessages"))]
    data["first_mes"], data["alternate_greetings"] = (greetings[0] if greetings else ""), greetings[1:]
    if book := [*_entries(character.get("loreItems"))]:
        data["character_book"] = {"extensions": {}, "entries": book}
    for name in ("description", "scenario", "system_prompt", "mes_example", "first_mes"):
        data[name] = _with_placeholders(data.get(name))
    data["alternate_greetings"] = [_with_placeholders(text) for text in data["alternate_greetings"]]
    if omitted := document.get("omitted"):
        card.notes.append(f"The file has more characters, which were not read: {omitted}.")
    return card


def _paths(manifest: Mapping[str, Any], name: str) -> list[str]:
    given = manifest.get(name)
    return [path for path in given if isinstance(path, str)] if isinstance(given, list) else []


def _document(files: Mapping[str, bytes], path: str) -> dict[str, Any]:
    if path not in files:
        raise Unprocessable(f"A file that the manifest names is not in the zip: {path[:60]!r}.")
    return read_document(files[path])


def _texts(messages: Any) -> list[str]:
    return [
        message["text"]
        for message in (messages if isinstance(messages, list) else ())
        if isinstance(message, dict) and isinstance(message.get("text"), str)
    ]


def _entries(items: Any) -> Iterator[dict[str, Any]]:
    keywords = 0
    for number, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, dict) and isinstance(item.get("key"), str):
            keywords += item["key"].count(",")
            check_values(keywords)
            yield {
                "keys": [key.strip() for key in item["key"].split(",")],
                "content": _with_placeholders(item.get("value")),
                "extensions": {},
                "enabled": True,
                "insertion_order": number,
            }


def _with_placeholders(value: Any) -> Any:
    """A text with the placeholders of cards. Double braces are those of cards already."""
    if not isinstance(value, str):
        return value
    for theirs, ours in _PLACEHOLDERS.items():
        value = value.replace(ours, theirs).replace(theirs, ours)
    return value
