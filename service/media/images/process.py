"""Checking and cleaning one picture: the program of a process of its own (see workers.py), which it may not survive.

It is told what kind of picture it reads from standard input, and writes a line of JSON to standard output: what is
wrong with it, or what it is, followed by the WebP files that are made of it. It knows nothing of the service.
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
MAX_SIDE = 16_383  # of a WebP
SIZES = (1024, 512, 256, 64)  # squares that thumbnails fit into, each made of the one before
ORIGINAL = "original"

MEMORY = 2 << 30  # bytes of addresses: twice what 40 megapixels need
SECONDS = 30  # of CPU, several times what the largest needs
PATIENCE = 60  # seconds, however busy the machine is

_OPAQUE = 128


class Refused(Exception):
    """The picture is not taken; the text is for a person."""


def main() -> None:
    os.nice(10)  # requests come first
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    signal.alarm(PATIENCE)  # ends this process, wherever it is
    warnings.simplefilter("ignore")
    try:
        about, files = clean(sys.stdin.buffer.read(), sys.argv[1])
    except Refused as refusal:
        about, files = {"detail": str(refusal)}, {}
    about["files"] = {name: len(content) for name, content in files.items()}
    sys.stdout.buffer.write(json.dumps(about).encode() + b"\n")
    for content in files.values():
        sys.stdout.buffer.write(content)


def clean(content: bytes, kind: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Width, height and color of a picture, and its files by the names of their sizes. Raises Refused."""
    picture = _decoded(content, kind)
    files = {ORIGINAL: _webp(picture, quality=90, method=2)}
    width, height = picture.size
    for size in SIZES:
        picture.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=3.0)
        files[str(size)] = _webp(picture, quality=82, method=4)
    return {"width": width, "height": height, "color": _color(picture)}, files


def _decoded(content: bytes, kind: str) -> Image.Image:
    """Upright, in sRGB, with nothing but pixels."""
    Image.MAX_IMAGE_PIXELS = None  # what its header says is looked at here
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
    except Exception as error:  # decoders raise whatever they like
        raise Refused("The picture is damaged: it cannot be decoded whole.") from error
    upright.info = {}
    return upright


def _check_bounds(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Refused(f"The picture has {width} × {height} pixels: at most 40 megapixels are taken.")
    if max(width, height) > MAX_SIDE:
        raise Refused(f"The picture has {width} × {height} pixels: a side has at most {MAX_SIDE:,}.")


def _has_orientation(picture: Image.Image) -> bool:
    try:
        return bool(picture.getexif().get(0x0112, 1) != 1)
    except Exception:  # damaged metadata is dropped like any other
        return False


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Eight bits each of red, green and blue, with alpha where something shines through."""
    if picture.mode.startswith("I"):  # 16 bits of gray
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    if picture.mode not in ("RGB", "RGBA", "L", "CMYK"):
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    elif picture.mode == "RGB" and picture.has_transparency_data:
        picture = picture.convert("RGBA")
    wanted = "RGBA" if picture.mode == "RGBA" else "RGB"
    return _by_profile(picture, wanted) or (picture if picture.mode == wanted else picture.convert(wanted))


def _by_profile(picture: Image.Image, wanted: Any) -> Image.Image | None:
    """None when there is no profile, or none that is of any use."""
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
    """The color that most of a small picture has, of the eight that tell it best."""
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
