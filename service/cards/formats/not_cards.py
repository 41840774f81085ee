"""Recognises files that similar programs write and that are no characters."""

from typing import Any

from service.errors import Unprocessable

_PRESET = {"temperature", "temp", "top_p", "top_k", "rep_pen", "prompt_order", "max_new_tokens", "input_sequence"}
_CHAT = {"chat_metadata", "user_name", "chat", "messages"}
_CHARACTER = {"first_mes", "personality", "mes_example", "char_persona", "char_greeting", "persona", "greeting"}


def check_is_card(document: dict[str, Any]) -> None:
    """Raises Unprocessable, with what it seems to be, if the document is known not to be a card."""
    seems = _named(document) or ("" if document.keys() & _CHARACTER or _has_data(document) else _guessed(document))
    if seems:
        raise Unprocessable(f"This is not a Character Card: it seems to be {seems}.")


def _has_data(document: dict[str, Any]) -> bool:
    return bool(isinstance(document.get("data"), dict) and document["data"])


def _named(document: dict[str, Any]) -> str | None:
    spec, kind = document.get("spec"), document.get("kind")
    if (isinstance(spec, str) and spec.startswith("lorebook")) or kind == "memory":
        return "a lorebook"
    return "a preset of a text generator" if kind in ("gen-setting", "preset") else None


def _guessed(document: dict[str, Any]) -> str | None:
    if isinstance(document.get("entries"), list | dict):
        return "a lorebook"
    if document.keys() & _PRESET:
        return "a preset of a text generator"
    if document.keys() & _CHAT:
        return "a chat"
    if document.get("data") == {}:
        return "an empty card"
    return None
