"""Renders the picture of an exported card: the portrait in another format, or a placeholder."""

import asyncio
from io import BytesIO

from PIL import Image, ImageDraw

from service.cards.formats.png import is_png
from service.database.held import check_no_connection
from service.media.images.workers import convert

_FORMATS = {"png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
_BACKGROUND, _FIGURE = "#d9dce1", "#aeb4be"


async def render_picture(portrait: bytes | None, path: str) -> bytes:
    """``portrait``, a WebP of this service or an imported PNG, in the format that the suffix of ``path`` names, or else
    as PNG.

    A portrait in that format is returned unchanged. Without a portrait, the picture is a placeholder. Raises what
    ``convert`` raises.
    """
    check_no_connection("Drawing a picture")
    kind = _FORMATS.get(path.rpartition(".")[2].lower(), "PNG")
    if portrait is None or not is_png(portrait):
        return await asyncio.to_thread(_encode, portrait, kind)
    return portrait if kind == "PNG" else await convert(portrait, "PNG", kind)


def _encode(portrait: bytes | None, kind: str) -> bytes:
    if portrait is not None and kind == "WEBP":
        return portrait
    picture = Image.open(BytesIO(portrait), formats=["WEBP"]) if portrait is not None else _placeholder()
    target = BytesIO()
    if kind == "PNG":
        picture.save(target, "PNG", compress_level=3)  # the default of 6 takes three times as long and saves little
    else:
        picture.convert("RGB").save(target, kind, quality=90)
    return target.getvalue()


def _placeholder() -> Image.Image:
    picture = Image.new("RGB", (400, 600), _BACKGROUND)
    pen = ImageDraw.Draw(picture)
    pen.ellipse((120, 140, 280, 320), fill=_FIGURE)
    pen.ellipse((40, 360, 360, 880), fill=_FIGURE)
    return picture
