"""Reads a character from a file, whatever its name: CONTAINERS say what the bytes are, DIALECTS what the document is.

Nothing that a card refers to is fetched, and no picture is decoded.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from service.cards.formats import png
from service.cards.formats.assets import ASSET, CardFile, decoded, find_picture, note_assets
from service.cards.formats.backyard import MANIFEST, character_folder, picture_paths, read_byaf
from service.cards.formats.charx import CARD, MAX_ENTRIES, Zip, is_safe, is_zip, read_zip
from service.cards.formats.dialects import parse_card
from service.cards.formats.exif import is_jpeg, is_webp, read_user_comment
from service.cards.formats.json import read_document
from service.cards.formats.specs import CardContent
from service.cards.formats.yaml import is_yaml, read_yaml
from service.errors import TooLarge, Unprocessable, UnsupportedMediaType

CHARA, CCV3 = "chara", "ccv3"
DEFAULT_ICON = "assets/icon/image/main.png"  # the portrait's path in a CHARX whose card names none

MAX_NUMBERS = 1024**2  # bytes of a text of numbers: each takes 50 bytes while it is read

_NO_CARD = "The picture contains no card."


class Container(NamedTuple):
    """A kind of file. ``read`` may return None: then the file is read as one of the next kinds."""

    name: str
    holds: Callable[[bytes], bool]
    read: Callable[[bytes], CardFile | None]


def read_file(content: bytes) -> CardFile:
    """Raises UnsupportedMediaType if the content is no container of cards, TooLarge or Unprocessable if it holds no
    valid card."""
    for container in CONTAINERS:
        if container.holds(content) and (found := container.read(content)):
            return found
    raise UnsupportedMediaType(
        "The file is not a Character Card: it is neither PNG, WebP, JPEG, CHARX, BYAF, JSON nor YAML."
    )


def _is_json(content: bytes) -> bool:
    return content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")


def _is_zip(content: bytes) -> bool:
    begins_well = content.startswith((b"PK", png.SIGNATURE)) or is_jpeg(content) or is_webp(content)
    return begins_well and is_zip(content)


def _read_png(content: bytes) -> CardFile | None:
    texts = png.read_texts(content, (CHARA, CCV3))
    if not texts.values.keys() & {CHARA, CCV3} and is_zip(content):
        return None
    card, notes = _read_best_card(texts.values)
    is_placeholder = texts.is_placeholder or "chara-no-portrait" in texts.values  # the latter is in older exports
    found = CardFile(card, picture=None if is_placeholder else content)
    found.notes[:0] = texts.notes + notes
    assets = {name.removeprefix(ASSET): value for name, value in texts.values.items() if name.startswith(ASSET)}
    if len(assets) > MAX_ENTRIES:
        raise Unprocessable(f"The PNG contains more than {MAX_ENTRIES:,} files.")
    for path, value in assets.items():
        file = decoded(value)
        if file is None or not is_safe(path):
            found.notes.append(
                f"A file in the PNG was ignored, because its path or content is not valid: {path[:60]!r}."
            )
        else:
            found.files[path] = file
    note_assets(found)
    return found


def _read_best_card(texts: dict[str, bytes]) -> tuple[CardContent, list[str]]:
    """The card in ccv3; the card in chara if there is no ccv3 or it is not valid."""
    failures: dict[str, Unprocessable] = {}
    for keyword in (CCV3, CHARA):
        if keyword not in texts:
            continue
        try:
            card = parse_card(_read_text(texts[keyword], f"The PNG's chunk '{keyword}'"))
            return card, [f"The PNG's chunk '{each}' is not valid; '{keyword}' was read instead." for each in failures]
        except Unprocessable as error:
            failures[keyword] = error
    raise next(iter(failures.values()), Unprocessable(_NO_CARD))


def _read_text(value: bytes, where: str) -> dict[str, Any]:
    """A text is JSON, base64 of it, or its bytes as numbers between commas."""
    text: bytes | None = value.strip()
    if value.strip()[:1] != b"{":
        text = _from_numbers(value) or decoded(value)
    if text is None:
        raise Unprocessable(f"{where} is not base64.")
    return read_document(text)


def _from_numbers(value: bytes) -> bytes | None:
    if b"," not in value[:8]:
        return None
    if len(value) > MAX_NUMBERS:
        raise TooLarge(f"A card that is written as numbers may have at most {MAX_NUMBERS // 1024**2} MiB.")
    try:
        return bytes(map(int, value.split(b",")))
    except ValueError:
        return None


def _read_exif(content: bytes) -> CardFile | None:
    if is_zip(content):  # a CHARX behind a picture, whose comment may be anything
        return None
    comment = read_user_comment(content)
    if not comment:
        raise Unprocessable(_NO_CARD)
    found = CardFile(parse_card(_read_text(comment, "The picture's UserComment")), picture=content)
    note_assets(found)
    return found


def _read_zip(content: bytes) -> CardFile:
    unpacked = read_zip(content)
    if CARD in unpacked.files:
        return _read_charx(unpacked)
    if MANIFEST in unpacked.files:
        return _read_byaf(unpacked)
    raise Unprocessable(f"The zip has neither {CARD} (CHARX) nor {MANIFEST} (BYAF) at its root.")


def _read_charx(unpacked: Zip) -> CardFile:
    found = CardFile(parse_card(read_document(unpacked.files.pop(CARD))), unpacked.files)
    find_picture(found)
    if found.picture is None and DEFAULT_ICON in found.files:
        found.icon, found.picture = DEFAULT_ICON, found.files[DEFAULT_ICON]
    if found.picture is None and unpacked.before:
        found.picture = unpacked.before
    return found


def _read_byaf(unpacked: Zip) -> CardFile:
    document = read_byaf(unpacked.files)
    paths = picture_paths(document, character_folder(document))
    icon = next((path for path in paths if path in unpacked.files), None)
    files = {path: file for path, file in unpacked.files.items() if not path.endswith(".json")}
    return CardFile(
        parse_card(document), files, unpacked.files[icon] if icon else None, icon if icon in files else None
    )


def _read_json(content: bytes) -> CardFile:
    found = CardFile(parse_card(_read_lines(content)))
    find_picture(found)
    return found


def _read_lines(content: bytes) -> dict[str, Any]:
    """The document. Raises Unprocessable that says so if there is one on each line, as in a chat."""
    try:
        return read_document(content)
    except Unprocessable:
        first, _, rest = content.strip().partition(b"\n")
        if first.rstrip().endswith(b"}") and rest.lstrip()[:1] == b"{":
            raise Unprocessable("This is not a Character Card: it seems to be a chat (JSON Lines).") from None
        raise


def _read_yaml(content: bytes) -> CardFile:
    return CardFile(parse_card(read_yaml(content)))


CONTAINERS = (
    Container("PNG, APNG", png.is_png, _read_png),
    Container("JPEG", is_jpeg, _read_exif),
    Container("WebP", is_webp, _read_exif),
    Container("CHARX, BYAF", _is_zip, _read_zip),
    Container("JSON", _is_json, _read_json),
    Container("YAML", is_yaml, _read_yaml),
)
