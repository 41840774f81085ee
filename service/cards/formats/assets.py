"""The files of a card: which of them is its picture, and which are missing."""

import base64
import binascii
import re
from typing import Any

import msgspec

from service.cards.formats.specs import CardContent

ASSET = "chara-ext-asset_:"  # followed by a path: the keyword of a file in a PNG
MAX_NOTES = 50

_EMBEDDED = ("embeded://", "embedded://", "__asset:")  # V3 spells it embeded, many writers embedded
_EXTERNAL = ("http:", "https:", "//")
_SANITISED = re.compile(r'[<>:"|?*\\]')  # what some writers replace in the names of files, but not in addresses


class CardFile(msgspec.Struct):
    """``icon`` is the path of ``picture`` in ``files``, if it is one of them."""

    card: CardContent
    files: dict[str, bytes] = {}
    picture: bytes | None = None
    icon: str | None = None

    @property
    def notes(self) -> list[str]:
        return self.card.notes


def find_picture(found: CardFile) -> None:
    """Uses the icon named main, or else the first icon, that is in the file."""
    icons = [asset for asset in _assets(found) if asset.get("type") == "icon"]
    for icon in sorted(icons, key=lambda asset: asset.get("name") != "main"):
        path = _path(icon["uri"], found)
        if path in found.files:
            found.icon, found.picture = path, found.files[path]
        elif icon["uri"].startswith("data:"):
            found.picture = decoded(icon["uri"].partition(",")[2].encode())
        if found.picture is not None:
            break
    note_assets(found)


def note_assets(found: CardFile) -> None:
    uris = [asset["uri"] for asset in _assets(found)]
    if external := [uri for uri in uris if uri.lower().startswith(_EXTERNAL)]:
        found.notes.append(f"Assets with external addresses were not fetched: {len(external)}.")
    if missing := [uri for uri in uris if (path := _path(uri, found)) is not None and path not in found.files]:
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


def _path(uri: str, found: CardFile) -> str | None:
    """The path of an embedded file, as it is spelt in the file; None for other addresses."""
    path = next((uri.removeprefix(prefix) for prefix in _EMBEDDED if uri.startswith(prefix)), None)
    return path if path is None or path in found.files else _SANITISED.sub("_", path)


def decoded(value: bytes) -> bytes | None:
    """Accepts line breaks and missing padding; None if the value is not base64."""
    packed = value.translate(None, b" \t\r\n").rstrip(b"=")
    try:
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except binascii.Error:
        return None
