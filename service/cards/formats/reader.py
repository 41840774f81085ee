"""Reads a Character Card from JSON, from the text chunks of a PNG, or from CHARX, whatever the name of the file.

Nothing that a card refers to is fetched, and no picture is decoded.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from service.cards.formats import png
from service.cards.formats.charx import MAX_ENTRIES, is_charx, is_safe, read_charx
from service.cards.formats.json import read_document
from service.cards.formats.specs import CardContent, parse_card
from service.errors import Unprocessable, UnsupportedMediaType

CHARA, CCV3 = "chara", "ccv3"
ASSET = "chara-ext-asset_:"  # followed by a path: the keyword of a file in a PNG
NO_PORTRAIT = "chara-no-portrait"  # only this service writes it: the picture is a placeholder
DEFAULT_ICON = "assets/icon/image/main.png"  # the portrait's path in a CHARX whose card names none

MAX_NOTES = 50

_EMBEDDED = ("embeded://", "embedded://", "__asset:")  # V3 spells it embeded, many writers embedded
_EXTERNAL = ("http:", "https:", "//")


class CardFile(msgspec.Struct):
    """``icon`` is the path of ``picture`` in ``files``, if it is one of them."""

    card: CardContent
    files: dict[str, bytes] = {}
    picture: bytes | None = None
    icon: str | None = None

    @property
    def notes(self) -> list[str]:
        return self.card.notes


def read_file(content: bytes) -> CardFile:
    """Raises UnsupportedMediaType if the content is not a card, TooLarge or Unprocessable if the card is not valid."""
    if content.startswith(png.SIGNATURE):
        texts = png.read_texts(content)
        if texts.values.keys() & {CHARA, CCV3} or not is_charx(content):
            return _read_png(content, texts)
    if content.startswith((b"PK", png.SIGNATURE, b"\xff\xd8\xff")) and is_charx(content):
        return _read_charx(content)
    if content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        found = CardFile(parse_card(read_document(content)))
        _find_picture(found)
        return found
    raise UnsupportedMediaType("The file is not a Character Card: it is neither JSON, PNG nor CHARX.")


def _read_png(content: bytes, texts: png.Texts) -> CardFile:
    card, notes = _read_best_card(texts.values)
    found = CardFile(card, picture=None if NO_PORTRAIT in texts.values else png.without_texts(content))
    found.notes[:0] = texts.notes + notes
    assets = {name.removeprefix(ASSET): value for name, value in texts.values.items() if name.startswith(ASSET)}
    if len(assets) > MAX_ENTRIES:
        raise Unprocessable(f"The PNG contains more than {MAX_ENTRIES:,} files.")
    for path, value in assets.items():
        file = _from_base64(value)
        if file is None or not is_safe(path):
            found.notes.append(
                f"A file in the PNG was ignored, because its path or content is not valid: {path[:60]!r}."
            )
        else:
            found.files[path] = file
    _note_assets(found)
    return found


def _read_best_card(texts: Mapping[str, bytes]) -> tuple[CardContent, list[str]]:
    """The card in ccv3; the card in chara if there is no ccv3 or it is not valid."""
    failures: dict[str, Unprocessable] = {}
    for keyword in (CCV3, CHARA):
        if keyword not in texts:
            continue
        text = _from_base64(texts[keyword])
        try:
            if text is None:
                raise Unprocessable(f"The PNG's chunk '{keyword}' is not base64.")
            notes = [f"The PNG's chunk '{each}' is not valid; '{keyword}' was read instead." for each in failures]
            return parse_card(read_document(text)), notes
        except Unprocessable as error:
            failures[keyword] = error
    raise next(iter(failures.values()), Unprocessable("The PNG contains no card."))


def _read_charx(content: bytes) -> CardFile:
    unpacked = read_charx(content)
    found = CardFile(parse_card(read_document(unpacked.card)), unpacked.files)
    _find_picture(found)
    if found.picture is None and DEFAULT_ICON in found.files:
        found.icon, found.picture = DEFAULT_ICON, found.files[DEFAULT_ICON]
    if found.picture is None and unpacked.before:
        found.picture = unpacked.before
    return found


def _find_picture(found: CardFile) -> None:
    """Uses the icon named main, or else the first icon, that is in the file."""
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
    if external := [uri for uri in uris if uri.lower().startswith(_EXTERNAL)]:
        found.notes.append(f"Assets with external addresses were not fetched: {len(external)}.")
    if missing := [uri for uri in uris if (path := _path(uri)) is not None and path not in found.files]:
        found.notes.append(f"Assets whose files are missing: {len(missing)}.")
    if any(uri.startswith("embedded://") for uri in uris):
        found.notes.append("Addresses that begin with embedded:// are read as embeded://, as V3 spells it.")


def _assets(found: CardFile) -> list[dict[str, Any]]:
    """The assets that are objects with an address."""
    given = found.card.data.get("assets")
    return [
        asset
        for asset in (given if isinstance(given, list) else ())
        if isinstance(asset, dict) and isinstance(asset.get("uri"), str)
    ]


def _path(uri: str) -> str | None:
    """The path of an embedded file; None for other addresses."""
    return next((uri.removeprefix(prefix) for prefix in _EMBEDDED if uri.startswith(prefix)), None)


def _from_base64(value: bytes) -> bytes | None:
    """Accepts line breaks and missing padding; None if the value is not base64."""
    packed = b"".join(value.split()).rstrip(b"=")
    try:
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except binascii.Error:
        return None
