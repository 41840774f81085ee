"""Writes a character as a Character Card: as JSON, PNG or CHARX, by V2 or V3."""

from collections.abc import Mapping
from typing import IO, Any, Literal, Protocol

import msgspec

from service.cards.formats.assets import ASSET
from service.cards.formats.charx import CARD, CharxWriter
from service.cards.formats.fields import with_edits
from service.cards.formats.json import MAX_BYTES, write_document
from service.cards.formats.png import KEYWORD_LENGTH, PngWriter
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


class Writer(Protocol):
    """Writes a card with its files, of which one is in memory at a time."""

    def add(self, path: str, content: bytes) -> None: ...

    def end(self) -> None: ...


class PngCard:
    """Without ``spec`` the PNG has both: old readers know only V2, and some only V1."""

    def __init__(
        self, target: IO[bytes], export: Export, spec: ExportSpec | None, picture: bytes, *, is_portrait: bool
    ) -> None:
        self._is_placeholder = not is_portrait
        self._png = PngWriter(target, picture)
        keywords: dict[str, ExportSpec] = {CHARA: "v2", CCV3: "v3"}
        for keyword, each in keywords.items():
            if spec is None or each == spec:
                self._png.add(keyword, _in_png(export, each))

    def add(self, path: str, content: bytes) -> None:
        keyword = ASSET + path
        if keyword.isascii() and len(keyword) <= KEYWORD_LENGTH:
            self._png.add(keyword, content)

    def end(self) -> None:
        self._png.end(is_placeholder=self._is_placeholder)


class CharxCard:
    """``picture`` is the portrait, if there is one."""

    def __init__(self, target: IO[bytes], export: Export, picture: bytes | None) -> None:
        icon = "ccdefault:" if picture is None else f"embeded://{DEFAULT_ICON}"
        self._icon, self._picture = export.icon, picture
        self._charx = CharxWriter(target, write_document(export.document("v3", icon)).encode())

    def add(self, path: str, content: bytes) -> None:
        if path != CARD and (self._picture is None or path != self._icon):
            self._charx.add(path, content)

    def end(self) -> None:
        if self._picture is not None:
            self._charx.add(self._icon, self._picture)
        self._charx.end()


def _in_png(export: Export, spec: ExportSpec) -> bytes:
    document = export.document(spec)
    if spec == "v2" and len(text := write_document(with_v1(document)).encode()) <= MAX_BYTES:
        return text
    return write_document(document).encode()
