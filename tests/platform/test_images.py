"""Cleaning pictures: the results, the refusals, and the limits of the process."""

import os
import resource
import signal
import subprocess
import sys
import time
import zlib
from typing import Any, get_args

import pytest
from PIL import Image, ImageCms

from service.errors import ServiceError, Unavailable, Unprocessable, UnsupportedMediaType
from service.media.images import process, workers
from service.media.images.process import Refused
from service.media.images.sniffing import sniff_format
from service.media.schemas import Size
from tests.support.pictures import FORMATS, chunk, draw_picture, huge_png, in_file, opened, saved


def cleaned(content: bytes) -> Image.Image:
    """The cleaned picture in its original size."""
    return opened(clean(content)[1]["original"])


def clean(content: bytes) -> Any:
    kind = sniff_format(content)
    assert kind is not None
    return process.clean(content, kind)


def refusal(content: bytes) -> str:
    with pytest.raises(Refused) as raised:
        clean(content)
    return str(raised.value)


def near(pixel: Any, red: int, green: int, blue: int) -> bool:
    return all(abs(one - other) <= 12 for one, other in zip(pixel[:3], (red, green, blue), strict=True))


def test_the_program_makes_the_sizes_that_the_api_has() -> None:
    assert {*map(str, process.SIZES), process.ORIGINAL} == {*get_args(Size)}


def test_pictures_are_rotated_upright_and_lose_their_metadata() -> None:
    picture = Image.new("RGB", (40, 20), "white")
    picture.paste((255, 0, 0), (0, 0, 20, 20))  # the left half; on its side, it belongs above
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "where I live"
    secret = b"where I live"
    for kind in ("JPEG", "PNG", "WEBP"):
        content = saved(picture, kind, exif=exif.tobytes(), quality=95)
        assert secret in content
        properties, files = clean(content)
        assert (properties["width"], properties["height"]) == (20, 40)
        upright = opened(files["original"])
        assert near(upright.getpixel((10, 5)), 255, 0, 0)
        assert near(upright.getpixel((10, 35)), 255, 255, 255)
        for file in files.values():
            assert secret not in file
            assert not opened(file).getexif()
            assert {b"EXIF", b"ICCP", b"XMP "}.isdisjoint({file[at : at + 4] for at in range(len(file))})


def test_texts_and_data_after_a_picture_are_dropped() -> None:
    body = draw_picture()
    end = body.index(b"IEND") - 4
    texts = chunk(b"tEXt", b"Comment\0the secret") + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"the secret"))
    polyglot = body[:end] + texts + body[end:] + b"PK\x03\x04the secret<script>alert(1)</script>"
    for file in clean(polyglot)[1].values():
        assert b"secret" not in file
    script = draw_picture("GIF", comment=b"*/=1;alert('the secret')//")
    assert b"secret" not in clean(script)[1]["original"]


def test_colors_become_srgb() -> None:
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    assert cleaned(saved(Image.new("RGB", (8, 8), "#336699"), "PNG", icc_profile=swapped.tobytes())).size == (8, 8)
    for broken in (b"no profile", bytes(200)):
        result = cleaned(saved(Image.new("RGB", (8, 8), "#336699"), "PNG", icc_profile=broken))
        assert near(result.getpixel((4, 4)), 0x33, 0x66, 0x99)
    assert cleaned(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).mode == "RGB"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_is_read(mode: str) -> None:
    picture = Image.new(mode, (9, 7))
    assert cleaned(saved(picture, "PNG")).size == (9, 7)


def test_sixteen_bits_of_gray_keep_their_shade() -> None:
    picture = Image.frombytes("I;16", (8, 8), (0x8000).to_bytes(2, "little") * 64)
    assert near(cleaned(saved(picture, "PNG")).getpixel((4, 4)), 128, 128, 128)


def test_transparency_is_kept() -> None:
    picture = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    picture.paste((0, 200, 0, 255), (0, 0, 20, 5))
    properties, files = clean(saved(picture, "PNG"))
    assert opened(files["original"]).getpixel((10, 15))[3] == 0  # it is RGBA
    assert near(bytes.fromhex(properties["color"].strip("#")), 0, 200, 0)
    assert clean(saved(Image.new("RGBA", (5, 5), (0, 0, 0, 0)), "PNG"))[0]["color"] == "#ffffff"


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "AVIF"])
def test_the_first_frame_of_an_animation_is_used(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("#c00000", "#00c000", "#0000c0")]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    result = cleaned(content)
    assert getattr(result, "n_frames", 1) == 1
    assert near(result.convert("RGB").getpixel((8, 8)), 0xC0, 0, 0)


@pytest.mark.parametrize("kind", FORMATS)
def test_truncated_pictures_are_refused(kind: str) -> None:
    content = draw_picture(kind, 200, 200)
    for part in (0.3, 0.6, 0.9):
        assert "damaged" in refusal(content[: int(len(content) * part)])


def test_the_first_bytes_decide_the_format() -> None:
    for kind in ("BMP", "TIFF", "ICO", "PPM", "TGA"):
        assert sniff_format(saved(Image.new("RGB", (8, 8)), kind)) is None
    assert "damaged" in refusal(b"\x89PNG\r\n\x1a\n" + saved(Image.new("RGB", (8, 8)), "BMP"))


def test_pictures_that_are_too_large_are_refused_before_decoding() -> None:
    bombs = {
        huge_png(40_000, 40_000): "40000 × 40000",
        huge_png(16_384, 100): "16384 × 100",
        b"GIF89a" + (65535).to_bytes(2, "little") * 2 + b"\0\0\0" + draw_picture("GIF")[13:]: "65535 × 65535",
    }
    for bomb, size in bombs.items():
        assert len(bomb) < 30_000
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        assert size in refusal(bomb)
        assert time.monotonic() - started < 1
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


async def refused(content: bytes) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        await cleaned_in_process(content)
    return raised.value


async def cleaned_in_process(content: bytes) -> workers.Picture:
    with in_file(content) as file:
        return await workers.clean(file)


async def test_the_process_returns_the_picture_or_its_fault() -> None:
    assert isinstance(await refused(b"<svg/>"), UnsupportedMediaType)
    assert isinstance(await refused(draw_picture()[:-30]), Unprocessable)
    picture = await cleaned_in_process(draw_picture(width=50))
    assert (picture.width, picture.files.keys()) == (50, {"original", "1024", "512", "256", "64"})


@pytest.mark.parametrize("target", ["JPEG", "WEBP"])
async def test_the_process_converts_a_picture(target: str) -> None:
    clear = saved(Image.new("RGBA", (30, 20), (200, 30, 30, 255)), "PNG")
    converted = opened(await workers.convert(clear, "PNG", target))
    assert (converted.format, converted.mode, converted.size) == (target, "RGB", (30, 20))
    with pytest.raises(Unprocessable):
        await workers.convert(clear[:-30], "PNG", target)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", Unprocessable),
        ("import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass", Unprocessable),
        ("print('{}')", Unprocessable),
        ("import signal, time; signal.alarm(1); time.sleep(9)", Unavailable),
        ("import time; time.sleep(9)", Unavailable),
    ],
)
async def test_a_process_that_crashes_or_hangs_fails_only_its_upload(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, text: str, error: type[ServiceError]
) -> None:
    program = tmp_path / "program.py"
    program.write_text(text)
    with monkeypatch.context() as patched:
        patched.setattr(workers, "_PROGRAM", program)
        patched.setattr(workers, "PATIENCE", 3)
        assert type(await refused(draw_picture())) is error
    assert (await cleaned_in_process(draw_picture())).height == 30


def test_the_process_has_limits_and_no_environment(tmp_path: Any) -> None:
    report = tmp_path / "report"
    program = f"""
import os, resource, runpy, signal, sys
sys.argv = ["processing", "PNG"]
import PIL.Image
def write_report(*_, **__):
    cpu = resource.getrlimit(resource.RLIMIT_CPU)[0]
    limits = resource.getrlimit(resource.RLIMIT_AS)[0], cpu, signal.alarm(0), os.nice(0), len(os.environ)
    open({str(report)!r}, "w").write(repr(limits))
    raise MemoryError
PIL.Image.open = write_report
runpy.run_path({process.__file__!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-I", "-c", program], input=draw_picture(), capture_output=True, env={})
    memory, cpu, seconds, nice, variables = eval(report.read_text())
    assert memory == process.MEMORY
    assert (cpu, seconds) == (process.SECONDS, process.PATIENCE)
    assert nice >= 10
    assert variables <= 1  # LC_CTYPE, which Python sets itself
    assert b"too much memory" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_pictures_are_cleaned_or_refused(kind: str) -> None:
    """Runs in a process of its own, which a crash would end; it checks its memory too."""
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.fuzzing_pictures", kind],
        env=environment,
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, signal.Signals(-done.returncode) if done.returncode < 0 else done.stderr.decode()
    assert b" refused, " in done.stdout
