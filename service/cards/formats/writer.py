"""A character as a card, in the container and by the specification that is asked for."""

import base64
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from service.cards.formats.charx import CARD, write_charx
from service.cards.formats.json import written_document
from service.cards.formats.png import LONGEST_KEYWORD, with_texts
from service.cards.formats.reader import ASSET, CCV3, CHARA, DEFAULT_ICON, NO_PORTRAIT
from service.cards.formats.specs import Spec, born_here, completed, document_of, laid_over

Wanted = Literal["v2", "v3"]


class Kept(msgspec.Struct):
    """What is kept of a card: all that it said, or, of a character born here, what was said of it as a card."""

    imported: bool
    spec: Spec
    spec_version: str
    data: dict[str, Any]
    icon: str | None


class Export(msgspec.Struct):
    """A character (columns, and its owner's ``username``) with what is kept of its card."""

    character: Mapping[str, Any]
    kept: Kept | None

    @property
    def spec(self) -> Wanted:
        """What it is without being asked: a card leaves as it came, V1 as the V2 that holds it."""
        return "v2" if self.kept and self.kept.spec in ("v1", "v2") else "v3"

    @property
    def icon(self) -> str:
        """The portrait's path in a CHARX."""
        return (self.kept and self.kept.icon) or DEFAULT_ICON

    def document(self, spec: Wanted, icon: str = "ccdefault:") -> dict[str, Any]:
        """``icon``: the address of the portrait, for a character born here."""
        kept = self.kept
        if kept is None or not kept.imported:
            born = born_here(self.character, icon) | (kept.data if kept else {})
            return document_of(completed(born, spec, since="v3"), spec)
        data = completed(laid_over(kept.data, self.character), spec, since=kept.spec)
        return document_of(data, spec, kept.spec_version if kept.spec == spec else None)


def as_json(export: Export, spec: Wanted) -> bytes:
    return written_document(export.document(spec)).encode()


def as_png(
    export: Export, spec: Wanted | None, picture: bytes, files: Mapping[str, bytes], *, is_portrait: bool = True
) -> bytes:
    """With ``spec`` None it is both: old readers look for V2."""
    keywords: dict[str, Wanted] = {CHARA: "v2", CCV3: "v3"}
    texts = {keyword: as_json(export, each) for keyword, each in keywords.items() if spec is None or each == spec} | {
        ASSET + path: file for path, file in files.items() if _fits(ASSET + path)
    }
    if not is_portrait:
        texts[NO_PORTRAIT] = b""
    return with_texts(picture, {keyword: base64.b64encode(text) for keyword, text in texts.items()})


def as_charx(export: Export, picture: bytes | None, files: Mapping[str, bytes]) -> bytes:
    carried = {path: file for path, file in files.items() if path != CARD}
    if picture is None:
        return write_charx(written_document(export.document("v3")).encode(), carried)
    document = export.document("v3", f"embeded://{DEFAULT_ICON}")
    return write_charx(written_document(document).encode(), carried | {export.icon: picture})


def _fits(keyword: str) -> bool:
    return keyword.isascii() and len(keyword) <= LONGEST_KEYWORD
