"""The dialects of cards, in the order in which they are tried. Each is a function from a document to a card, or to
None if the document is in another dialect."""

from collections.abc import Callable
from typing import Any

from service.cards.formats.agnai import parse_agnai
from service.cards.formats.backyard import parse_backyard
from service.cards.formats.json import MAX_VALUES, check_document, check_values
from service.cards.formats.not_cards import check_is_card
from service.cards.formats.pygmalion import parse_pygmalion, parse_text_generation
from service.cards.formats.specs import CardContent, check_types, parse_envelope, parse_v1
from service.errors import Unprocessable
from service.text.json_values import count_values

DIALECTS: dict[str, Callable[[dict[str, Any]], CardContent | None]] = {
    "V2 and V3": parse_envelope,
    "Agnai": parse_agnai,
    "Backyard": parse_backyard,
    "V1": parse_v1,
    "text-generation-webui": parse_text_generation,
    "Pygmalion": parse_pygmalion,
}


def parse_card(document: dict[str, Any]) -> CardContent:
    """Raises Unprocessable if this is not a card, it has too many values, or its name, description, tags or extensions
    have a wrong type."""
    check_is_card(document)
    for parse in DIALECTS.values():
        if card := parse(document):
            check_types(card)
            check_values(count_values(card.data, MAX_VALUES))  # a dialect or a text of tags may have made more
            if parse not in (parse_envelope, parse_v1):
                check_document(card.data)  # it is nested deeper than what was read
            return card
    raise Unprocessable("This is not a Character Card: it has no field of one.")
