"""Writes a character as a Character Card: as JSON, PNG or CHARX, by V2 or V3."""

import base64
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from service.cards.formats.assets import ASSET
from service.cards.formats.charx import CARD, write_charx
from service.cards.formats.fields import with_edits
from service.cards.formats.json import MAX_BYTES, write_document
from service.cards.formats.png import KEYWORD_LENGTH, with_texts
from service.cards.formats.reader import CCV3, CHARA, DEFAULT_ICON
from service.cards.formats.specs import Spec, card_document, data_of_new_card, with_required, with_v1

ExportSpec = Literal["v2", "v3"]


class StoredCard(msgspec.Struct):
    """The row of a card. ``data`` is all that was imported; for other characters, the members that were edited."""

    imported: bool
    spec: Spec
    spec_version: str
    data: dict[str, Any]
    icon: str | None


class Export(msgspec.Struct):
    """A character, as its columns and its owner's ``username``, with its stored card."""

    character: Mapping[str, Any]
    stored: StoredCard | None

    @property
    def spec(self) -> ExportSpec:
        """The specification of the imported card, V2 in place of V1; V3 for other characters."""
        return "v2" if self.stored and self.stored.spec in ("v1", "v2") else "v3"

    @property
    def icon(self) -> str:
        """The portrait's path in a CHARX."""
        return (self.stored and self.stored.icon) or DEFAULT_ICON

    def document(self, spec: ExportSpec, icon: str = "ccdefault:") -> dict[str, Any]:
        """``icon`` is the address of the portrait, for a character that was not imported."""
        stored = self.stored
        if stored is None or not stored.imported:
            data = data_of_new_card(self.character, icon) | (stored.data if stored else {})
            return card_document(with_required(data, spec, since="v3"), spec)
        data = with_required(with_edits(stored.data, self.character), spec, since=stored.spec)
        return card_document(data, spec, stored.spec_version if stored.spec == spec else None)


def as_json(export: Export, spec: ExportSpec) -> bytes:
    return write_document(export.document(spec)).encode()


def as_png(
    export: Export, spec: ExportSpec | None, picture: bytes, files: Mapping[str, bytes], *, is_portrait: bool = True
) -> bytes:
    """Without ``spec`` the PNG has both: old readers know only V2, and some only V1."""
    keywords: dict[str, ExportSpec] = {CHARA: "v2", CCV3: "v3"}
    texts = {keyword: _in_png(export, each) for keyword, each in keywords.items() if spec is None or each == spec} | {
        ASSET + path: file for path, file in files.items() if _fits(ASSET + path)
    }
    encoded = {keyword: base64.b64encode(text) for keyword, text in texts.items()}
    return with_texts(picture, encoded, is_placeholder=not is_portrait)


def as_charx(export: Export, picture: bytes | None, files: Mapping[str, bytes]) -> bytes:
    others = {path: file for path, file in files.items() if path != CARD}
    if picture is None:
        return write_charx(write_document(export.document("v3")).encode(), others)
    document = export.document("v3", f"embeded://{DEFAULT_ICON}")
    return write_charx(write_document(document).encode(), others | {export.icon: picture})


def _in_png(export: Export, spec: ExportSpec) -> bytes:
    document = export.document(spec)
    if spec == "v2" and len(text := write_document(with_v1(document)).encode()) <= MAX_BYTES:
        return text
    return write_document(document).encode()


def _fits(keyword: str) -> bool:
    return keyword.isascii() and len(keyword) <= KEYWORD_LENGTH
