"""A file that a card comes in, whatever it is called: JSON, a PNG with the card in its text, or CHARX.

Nothing that a card refers to is ever fetched, and no pixel is looked at.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from service.cards.formats import png
from service.cards.formats.charx import MOST_ENTRIES, is_charx, is_safe, read_charx
from service.cards.formats.json import read_document
from service.cards.formats.specs import CardContent, card_of
from service.errors import Unprocessable, UnsupportedMediaType

CHARA, CCV3 = "chara", "ccv3"
ASSET = "chara-ext-asset_:"  # and its path: a file in a PNG
NO_PORTRAIT = "chara-no-portrait"  # ours: the picture is there as a PNG must have one
DEFAULT_ICON = "assets/icon/image/main.png"  # where a CHARX has its portrait when the card does not say

MOST_NOTES = 50

_EMBEDDED = ("embeded://", "embedded://", "__asset:")  # the first as V3 spells it, the second as people do
_ELSEWHERE = ("http:", "https:", "//")


class CardFile(msgspec.Struct):
    """``icon`` is the path that the picture had among the files, if it was one of them."""

    card: CardContent
    files: dict[str, bytes] = {}
    picture: bytes | None = None
    icon: str | None = None

    @property
    def notes(self) -> list[str]:
        return self.card.notes


def read_file(content: bytes) -> CardFile:
    """Raises UnsupportedMediaType for what cannot be a card, TooLarge or Unprocessable for what is no good one."""
    if content.startswith(png.SIGNATURE):
        texts = png.read_texts(content)
        if texts.values.keys() & {CHARA, CCV3} or not is_charx(content):
            return _in_png(content, texts)
    if content.startswith((b"PK", png.SIGNATURE, b"\xff\xd8\xff")) and is_charx(content):
        return _in_charx(content)
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        found = CardFile(card_of(read_document(content)))
        _find_picture(found)
        return found
    raise UnsupportedMediaType("The file is no Character Card: it is neither JSON, PNG nor CHARX.")


def _in_png(content: bytes, texts: png.Texts) -> CardFile:
    card, notes = _best_of(texts.values)
    found = CardFile(card, picture=None if NO_PORTRAIT in texts.values else png.without_texts(content))
    found.notes[:0] = texts.notes + notes
    assets = {name.removeprefix(ASSET): value for name, value in texts.values.items() if name.startswith(ASSET)}
    if len(assets) > MOST_ENTRIES:
        raise Unprocessable(f"The PNG has more than {MOST_ENTRIES:,} files in it.")
    for path, value in assets.items():
        file = _from_base64(value)
        if file is None or not is_safe(path):
            found.notes.append(f"A file in the PNG was left out, as its path or content cannot be read: {path[:60]!r}.")
        else:
            found.files[path] = file
    _note_assets(found)
    return found


def _best_of(texts: Mapping[str, bytes]) -> tuple[CardContent, list[str]]:
    """ccv3 wins over chara, unless only chara can be read."""
    failures: dict[str, Unprocessable] = {}
    for keyword in (CCV3, CHARA):
        if keyword not in texts:
            continue
        text = _from_base64(texts[keyword])
        try:
            if text is None:
                raise Unprocessable(f"The PNG's chunk '{keyword}' is not base64.")
            notes = [f"The PNG's chunk '{each}' cannot be read: '{keyword}' was." for each in failures]
            return card_of(read_document(text)), notes
        except Unprocessable as error:
            failures[keyword] = error
    raise next(iter(failures.values()), Unprocessable("The PNG has no card in it."))


def _in_charx(content: bytes) -> CardFile:
    unpacked = read_charx(content)
    found = CardFile(card_of(read_document(unpacked.card)), unpacked.files)
    _find_picture(found)
    if found.picture is None and DEFAULT_ICON in found.files:
        found.icon, found.picture = DEFAULT_ICON, found.files[DEFAULT_ICON]
    if found.picture is None and unpacked.before:
        found.picture = unpacked.before
    return found


def _find_picture(found: CardFile) -> None:
    """The icon that is called main, else the first one, where the card itself brings it."""
    icons = [asset for asset in _assets(found) if asset.get("type") == "icon"]
    for icon in sorted(icons, key=lambda asset: asset.get("name") != "main"):
        path = _path(icon["uri"])
        if path in found.files:
            found.icon, found.picture = path, found.files[path]
        elif icon["uri"].startswith("data:"):
            found.picture = _from_base64(icon["uri"].partition(",")[2].encode())
        if found.picture is not None:
            break
    _note_assets(found)


def _note_assets(found: CardFile) -> None:
    uris = [asset["uri"] for asset in _assets(found)]
    if elsewhere := [uri for uri in uris if uri.lower().startswith(_ELSEWHERE)]:
        found.notes.append(f"Assets that lie elsewhere are not fetched: {len(elsewhere)}.")
    if missing := [uri for uri in uris if (path := _path(uri)) is not None and path not in found.files]:
        found.notes.append(f"Assets whose files are not there: {len(missing)}.")
    if any(uri.startswith("embedded://") for uri in uris):
        found.notes.append("Addresses that begin with embedded:// are read as embeded://, as V3 spells it.")


def _assets(found: CardFile) -> list[dict[str, Any]]:
    """Those that can be understood."""
    given = found.card.data.get("assets")
    return [
        asset
        for asset in (given if isinstance(given, list) else ())
        if isinstance(asset, dict) and isinstance(asset.get("uri"), str)
    ]


def _path(uri: str) -> str | None:
    """Of a file that the card brings along."""
    return next((uri.removeprefix(prefix) for prefix in _EMBEDDED if uri.startswith(prefix)), None)


def _from_base64(value: bytes) -> bytes | None:
    """Line ends and missing padding are forgiven."""
    packed = b"".join(value.split()).rstrip(b"=")
    try:
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except binascii.Error:
        return None
