"""Checks and cleans one picture, or converts it. It runs in a process of its own (see workers.py), because decoders may
crash.

The first argument is the format; standard input is the picture. Standard output is a line of JSON: either ``detail``
with the fault of the picture, or its properties, followed by the files. Those are WebP, in several sizes; or, with a
second argument, one file of that format. The program imports nothing of the service.
"""

import io
import json
import os
import resource
import signal
import sys
import warnings
from typing import Any

from PIL import AvifImagePlugin, Image, ImageCms, ImageFile, ImageOps, WebPImagePlugin  # noqa: F401 (two decoders)

MAX_PIXELS = 40_000_000
MAX_SIDE = 16_383  # the limit of WebP
SIZES = (1024, 512, 256, 64)  # squares that the thumbnails fit into; each is made from the one before
ORIGINAL = "original"

MEMORY = 2 << 30  # bytes of address space: twice what 40 megapixels need
OUTPUT = 256 << 20  # bytes, several times what 40 megapixels of noise give
SECONDS = 30  # of CPU: several times what the largest picture needs
PATIENCE = 60  # seconds in all

_OPAQUE = 128


class Refused(Exception):
    """The picture is refused; the text is for the client."""


def main() -> None:
    os.nice(10)  # requests come first
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (OUTPUT, OUTPUT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    signal.alarm(PATIENCE)  # ends this process
    warnings.simplefilter("ignore")
    try:
        properties, files = (convert if len(sys.argv) > 2 else clean)(sys.stdin.buffer.read(), *sys.argv[1:])
    except Refused as refusal:
        properties, files = {"detail": str(refusal)}, {}
    properties["files"] = {name: len(content) for name, content in files.items()}
    sys.stdout.buffer.write(json.dumps(properties).encode() + b"\n")
    for content in files.values():
        sys.stdout.buffer.write(content)


def clean(content: bytes, kind: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The width, height and color of a picture, and its WebP files by size. Raises Refused."""
    picture = _decoded(content, kind)
    files = {ORIGINAL: _webp(picture, quality=90, method=2)}
    width, height = picture.size
    for size in SIZES:
        picture.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
        files[str(size)] = _webp(picture, quality=82, method=4)
    return {"width": width, "height": height, "color": _color(picture)}, files


def convert(content: bytes, kind: str, target: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Like ``clean``, with one opaque file of the format ``target``, in the size of the picture."""
    picture = _decoded(content, kind).convert("RGB")
    file = io.BytesIO()
    picture.save(file, target, quality=90)
    return {"width": picture.width, "height": picture.height, "color": ""}, {target: file.getvalue()}


def _decoded(content: bytes, kind: str) -> Image.Image:
    """The picture rotated upright, in sRGB, without metadata."""
    Image.MAX_IMAGE_PIXELS = None  # _check_bounds replaces the check of Pillow
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(io.BytesIO(content), formats=[kind]) as picture:
            _check_bounds(*picture.size)
            picture.load()
            _check_bounds(*picture.size)
            upright = ImageOps.exif_transpose(_in_srgb(picture)) if _has_orientation(picture) else _in_srgb(picture)
    except Refused:
        raise
    except MemoryError:
        raise Refused("The picture needs too much memory.") from None
    except Exception as error:  # decoders raise errors of many kinds
        raise Refused("The picture is damaged: it cannot be decoded completely.") from error
    upright.info = {}
    return upright


def _check_bounds(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Refused(
            f"The picture has {width} × {height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are allowed."
        )
    if max(width, height) > MAX_SIDE:
        raise Refused(f"The picture has {width} × {height} pixels; a side may have at most {MAX_SIDE:,}.")


def _has_orientation(picture: Image.Image) -> bool:
    try:
        return bool(picture.getexif().get(0x0112, 1) != 1)
    except Exception:  # damaged metadata is ignored
        return False


def _in_srgb(picture: Image.Image) -> Image.Image:
    """The picture as RGB, or as RGBA if it has transparency, with 8 bits a channel."""
    if picture.mode.startswith("I"):  # 16 bits of gray
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    if picture.mode not in ("RGB", "RGBA", "L", "CMYK"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    elif picture.mode == "RGB" and picture.has_transparency_data:
        picture = picture.convert("RGBA")
    wanted = "RGBA" if picture.mode == "RGBA" else "RGB"
    return _by_profile(picture, wanted) or (picture if picture.mode == wanted else picture.convert(wanted))


def _by_profile(picture: Image.Image, wanted: Any) -> Image.Image | None:
    """The picture converted by its color profile; None if there is no usable one or it is sRGB."""
    profile = picture.info.get("icc_profile")
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return None
        return ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode=wanted)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _webp(picture: Image.Image, quality: int, method: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality, method=method)
    return file.getvalue()


def _color(picture: Image.Image) -> str:
    """The dominant color of the picture, reduced to eight colors."""
    pixels = picture.convert("RGBA").tobytes()
    visible = [pixels[at : at + 3] for at in range(0, len(pixels), 4) if pixels[at + 3] >= _OPAQUE]
    if not visible:
        return "#ffffff"
    row = Image.frombytes("RGB", (len(visible), 1), b"".join(visible)).quantize(8)
    counts = row.histogram()
    most = counts.index(max(counts))
    palette = row.getpalette() or [255, 255, 255]
    return "#" + bytes(palette[most * 3 : most * 3 + 3]).hex()


if __name__ == "__main__":
    main()
