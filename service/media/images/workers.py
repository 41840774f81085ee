"""Cleans each picture in a process of its own, without secrets in its memory or environment: a crash of a decoder fails
one upload only. AT_ONCE processes run at a time, WAITING uploads wait, and further ones are refused with 503."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from service.database.held import check_no_connection
from service.errors import Unavailable, Unprocessable, UnsupportedMediaType
from service.media.images.sniffing import sniff_format

AT_ONCE = 1  # the other core is for requests
WAITING = 16
PATIENCE = 65  # seconds; the process ends itself after 60

_PROGRAM = Path(__file__).with_name("process.py")
_BUSY = "The service is too busy to process the picture."


class Picture(msgspec.Struct, kw_only=True):
    width: int
    height: int
    color: str
    files: dict[str, bytes]


class Workers:
    def __init__(self, at_once: int, waiting: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self.uploads = 0  # that run or wait

    async def clean(self, content: bytes) -> Picture:
        """Raises UnsupportedMediaType or Unprocessable if the picture is not valid, Unavailable if too many wait."""
        check_no_connection("Decoding a picture")
        kind = sniff_format(content)
        if kind is None:
            raise UnsupportedMediaType("The file is not a PNG, JPEG, WebP, AVIF or GIF.")
        if self.uploads >= self._most:
            raise Unavailable("Too many pictures are being processed.")
        self.uploads += 1
        try:
            async with self._free:
                return _read(await _run(content, kind))
        finally:
            self.uploads -= 1


async def _run(content: bytes, kind: str) -> bytes:
    """The output of the process, truncated if it crashes. Raises Unavailable if it cannot start or takes too long.

    A thread starts the process with the standard library, which blocks for 0.5 ms. uvloop would block the event loop
    for 8 ms, because it copies the memory map of the service.
    """
    command = [sys.executable, "-I", str(_PROGRAM), kind]
    try:
        done: subprocess.CompletedProcess[bytes] = await asyncio.to_thread(
            subprocess.run, command, input=content, capture_output=True, env={}, timeout=PATIENCE
        )
    except OSError as error:
        raise Unavailable("The process for the picture could not be started.") from error
    except subprocess.TimeoutExpired:
        raise Unavailable(_BUSY) from None
    if done.returncode == -signal.SIGALRM:
        raise Unavailable(_BUSY)
    return done.stdout


def _read(output: bytes) -> Picture:
    first_line, _, body = output.partition(b"\n")
    properties: dict[str, Any] = msgspec.json.decode(first_line) if first_line else {}
    if "detail" in properties:
        raise Unprocessable(properties["detail"])
    sizes: dict[str, int] = properties.get("files", {})
    if not sizes or len(body) != sum(sizes.values()):
        raise Unprocessable("The picture cannot be decoded.")
    files, at = {}, 0
    for name, size in sizes.items():
        files[name] = body[at : at + size]
        at += size
    return Picture(width=properties["width"], height=properties["height"], color=properties["color"], files=files)


WORKERS = Workers(AT_ONCE, WAITING)
