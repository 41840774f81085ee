"""A process for each picture: what breaks it breaks that upload alone, and whatever it has read, there is no secret in
its memory or environment. A few at a time, as many again waiting, and the others are asked to come back."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from service.errors import Unavailable, Unprocessable, UnsupportedMediaType
from service.media.images.sniffing import kind_of

AT_ONCE = 1  # the other core is for requests
WAITING = 16
PATIENCE = 65  # seconds; the process should have ended itself by then

_PROGRAM = Path(__file__).with_name("process.py")
_BUSY = "The machine was too busy for the picture."


class Picture(msgspec.Struct, kw_only=True):
    width: int
    height: int
    color: str
    files: dict[str, bytes]


class Workers:
    def __init__(self, at_once: int, waiting: int) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._uploads = 0

    async def clean(self, content: bytes) -> Picture:
        """Raises UnsupportedMediaType or Unprocessable for what is no good picture, Unavailable when too many wait."""
        kind = kind_of(content)
        if kind is None:
            raise UnsupportedMediaType("The file is no PNG, JPEG, WebP, AVIF or GIF, whatever its name says.")
        if self._uploads >= self._most:
            raise Unavailable("Too many pictures are being worked on.")
        self._uploads += 1
        try:
            async with self._free:
                return _read(await _run(content, kind))
        finally:
            self._uploads -= 1


async def _run(content: bytes, kind: str) -> bytes:
    """What the process writes, which is cut short when it dies. Raises Unavailable when it does not get to it.

    A thread starts it: uvloop would copy the service's map of memory first, and answer nobody for 8 ms, where the
    standard library takes half of one.
    """
    command = [sys.executable, "-I", str(_PROGRAM), kind]
    try:
        done: subprocess.CompletedProcess[bytes] = await asyncio.to_thread(
            subprocess.run, command, input=content, capture_output=True, env={}, timeout=PATIENCE
        )
    except OSError as error:
        raise Unavailable("No process could be started for the picture.") from error
    except subprocess.TimeoutExpired:
        raise Unavailable(_BUSY) from None
    if done.returncode == -signal.SIGALRM:
        raise Unavailable(_BUSY)
    return done.stdout


def _read(output: bytes) -> Picture:
    head, _, body = output.partition(b"\n")
    about: dict[str, Any] = msgspec.json.decode(head) if head else {}
    if "detail" in about:
        raise Unprocessable(about["detail"])
    sizes: dict[str, int] = about.get("files", {})
    if not sizes or len(body) != sum(sizes.values()):
        raise Unprocessable("The picture cannot be decoded.")
    files, at = {}, 0
    for name, size in sizes.items():
        files[name] = body[at : at + size]
        at += size
    return Picture(width=about["width"], height=about["height"], color=about["color"], files=files)


WORKERS = Workers(AT_ONCE, WAITING)
