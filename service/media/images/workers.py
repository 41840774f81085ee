"""Cleans each picture in a process of its own, without secrets in its memory or environment: a crash of a decoder fails
one upload only. One process cleans at a time. As many uploads wait as TURNS allows, and further ones are refused with
503. Conversions for exports run within the turn of the export."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

import msgspec

from service.database.held import check_no_connection
from service.errors import Unavailable, Unprocessable, UnsupportedMediaType
from service.limits.turns import Turns
from service.media.images.sniffing import START, sniff_format

PATIENCE = 65  # seconds; the process ends itself after 60
MAX_LINE = 4096  # bytes of the first line of its output

_PROGRAM = Path(__file__).with_name("process.py")
_BUSY = "The service is too busy to process the picture."


class Picture(msgspec.Struct, kw_only=True):
    width: int
    height: int
    color: str
    files: dict[str, bytes]


# One at a time: the other core is for requests
TURNS = Turns(1, waiting=32, waiting_of_caller=8, refusal="Too many pictures are being processed.")


async def clean(file: IO[bytes]) -> Picture:
    """Raises UnsupportedMediaType or Unprocessable if the picture is not valid, Unavailable if too many wait."""
    check_no_connection("Decoding a picture")
    file.seek(0)
    kind = sniff_format(file.read(START))
    if kind is None:
        raise UnsupportedMediaType("The file is not a PNG, JPEG, WebP, AVIF or GIF.")
    async with TURNS.turn():
        return await asyncio.to_thread(_process, file, kind)


async def convert(content: bytes, kind: str, target: str) -> bytes:
    """An upload of the format ``kind`` that was cleaned before, in the format ``target``. It has no turn of its own.
    Raises as ``clean`` does."""
    check_no_connection("Decoding a picture")
    with tempfile.TemporaryFile() as file:
        await asyncio.to_thread(file.write, content)
        picture = await asyncio.to_thread(_process, file, kind, target)
    return picture.files[target]


def _process(file: IO[bytes], *arguments: str) -> Picture:
    """Blocks. The pictures are on disk until the process has ended: a large one needs its memory once."""
    with tempfile.TemporaryFile() as output:
        descriptor = file.fileno()  # from now on it is on disk
        file.flush()
        os.lseek(descriptor, 0, os.SEEK_SET)  # file.seek would move within Python's buffer only
        _run([sys.executable, "-I", str(_PROGRAM), *arguments], descriptor, output)
        output.seek(0)
        return _read(output)


def _run(command: list[str], picture: int, output: IO[bytes]) -> None:
    """The output is truncated if the process crashes. Raises Unavailable if it cannot start or takes too long.

    The standard library starts the process, which blocks for 0.5 ms. uvloop would block the event loop for 8 ms,
    because it copies the memory map of the service. A timer ends it: with a time-out, the standard library would look
    every 50 ms whether it has ended, and a small picture would take 170 ms instead of 105.
    """
    try:
        process = subprocess.Popen(command, stdin=picture, stdout=output, stderr=subprocess.DEVNULL, env={})
    except OSError as error:
        raise Unavailable("The process for the picture could not be started.") from error
    is_late = threading.Event()

    def end() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(PATIENCE, end)
    timer.start()
    try:
        status = process.wait()
    finally:
        timer.cancel()
    if is_late.is_set() or status == -signal.SIGALRM:
        raise Unavailable(_BUSY)


def _read(output: IO[bytes]) -> Picture:
    first_line = output.readline(MAX_LINE)
    properties: dict[str, Any] = msgspec.json.decode(first_line) if first_line else {}
    if "detail" in properties:
        raise Unprocessable(properties["detail"])
    sizes: dict[str, int] = properties.get("files", {})
    files = {name: output.read(size) for name, size in sizes.items()}
    if not sizes or any(len(files[name]) != size for name, size in sizes.items()):
        raise Unprocessable("The picture cannot be decoded.")
    return Picture(width=properties["width"], height=properties["height"], color=properties["color"], files=files)
