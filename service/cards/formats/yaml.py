"""Reads a card from YAML; aliases are refused. Plain values are typed as in JSON: ``no`` and ``12:30`` are texts."""

import json
import re
from typing import Any

import yaml

from service.cards.formats.json import MAX_VALUES, check_document
from service.errors import TooLarge, Unprocessable
from service.validation import MAX_DEPTH

MAX_BYTES = 1024 * 1024

_LITERALS = {"": None, "~": None, "null": None, "true": True, "false": False}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18})(\.[0-9]{1,18})?")
_FIRST_KEY = re.compile(r"""(?:\ufeff|\s|---|#[^\n]*\n)*["']?[A-Za-z_][\w -]{0,60}["']?\s?:(?:\s|$)""")
_LOOKED_AT = 4_096  # characters
# At the beginning of a line, of any kind that libyaml knows
_TAG_DIRECTIVE = re.compile("(?:\\A|[\r\n\x85\u2028\u2029])%TAG")


def is_yaml(content: bytes) -> bool:
    """Whether the content is a text that begins with a key, perhaps behind comments."""
    return _FIRST_KEY.match(content[:_LOOKED_AT].decode("utf-8", "replace")) is not None


def read_yaml(content: bytes) -> dict[str, Any]:
    """Raises TooLarge, or Unprocessable with the faults that are reported."""
    if len(content) > MAX_BYTES:
        raise TooLarge(f"A card may have at most {MAX_BYTES // 1024**2} MiB of YAML.")
    try:
        text = content.decode("utf-8-sig")
        # libyaml compares each with all others, and writes out its prefix for each value with the tag: seconds, in
        # which no other thread of the worker runs
        if _TAG_DIRECTIVE.search(text):
            raise Unprocessable("The card has a YAML directive, which is not read.")
        document = _built(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Unprocessable("The card is not valid YAML (UTF-8).") from error
    return check_document(document)


def _built(text: str) -> Any:
    """Without recursion: the depth is checked while the text is read."""
    root: list[Any] = []
    open_: list[tuple[Any, list[Any]]] = [(root, [])]  # each with the key that waits for its value
    for events, event in enumerate(yaml.parse(text, Loader=yaml.CSafeLoader)):
        if events > MAX_VALUES:
            raise Unprocessable(f"The card has more than {MAX_VALUES:,} values.")
        if isinstance(event, yaml.AliasEvent):
            raise Unprocessable("The card has YAML aliases, which are not read.")
        if isinstance(event, yaml.CollectionEndEvent):
            open_.pop()
        elif isinstance(event, yaml.ScalarEvent):
            _put(open_[-1], _value(event))
        elif isinstance(event, yaml.CollectionStartEvent):
            made: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            _put(open_[-1], made)
            open_.append((made, []))
            if len(open_) > MAX_DEPTH + 1:
                raise Unprocessable(f"The card is nested deeper than {MAX_DEPTH} levels.")
    if len(root) != 1:
        raise Unprocessable("The file has no YAML document, or several.")
    return root[0]


def _put(parent: tuple[Any, list[Any]], value: Any) -> None:
    into, key = parent
    if isinstance(into, list):
        into.append(value)
    elif key:
        into[key.pop()] = value
    elif isinstance(value, list | dict):
        raise Unprocessable("The card has a YAML key that is not a text.")
    else:
        key.append(value if isinstance(value, str) else json.dumps(value))


def _value(event: Any) -> Any:
    text: str = event.value
    if not event.implicit[0]:  # quoted, or a block
        return text
    if text in _LITERALS:
        return _LITERALS[text]
    return json.loads(text) if _NUMBER.fullmatch(text) else text
