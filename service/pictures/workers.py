"""A process for each picture: what breaks it breaks that upload alone, and whatever it has read, there is no secret in
its memory or environment. A few at a time, as many again waiting, and the others are asked to come back."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from service.errors import ServiceError, Unavailable, Unprocessable, UnsupportedMediaType

AT_ONCE = 1  # the other core is for requests
WAITING = 16
PATIENCE = 35  # seconds; the process should have ended itself by then

_PROGRAM = Path(__file__).with_name("processing.py")
_REFUSALS: dict[int, type[ServiceError]] = {415: UnsupportedMediaType, 422: Unprocessable}


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
        if self._uploads >= self._most:
            raise Unavailable("Too many pictures are being worked on.")
        self._uploads += 1
        try:
            async with self._free:
                return _read(await _run(content))
        finally:
            self._uploads -= 1


async def _run(content: bytes) -> bytes:
    """What the process writes; what is cut short when it dies."""
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_PROGRAM),
            env={},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise Unavailable("No process could be started for the picture.") from error
    try:
        output, _ = await asyncio.wait_for(process.communicate(content), PATIENCE)
    except TimeoutError:
        return b""
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return output


def _read(output: bytes) -> Picture:
    head, _, body = output.partition(b"\n")
    about: dict[str, Any] = msgspec.json.decode(head) if head else {}
    if status := about.get("status"):
        raise _REFUSALS[status](about["detail"])
    sizes: dict[str, int] = about.get("files", {})
    if not sizes or len(body) != sum(sizes.values()):
        raise Unprocessable("The picture cannot be decoded.")
    files, at = {}, 0
    for name, size in sizes.items():
        files[name] = body[at : at + size]
        at += size
    return Picture(width=about["width"], height=about["height"], color=about["color"], files=files)


WORKERS = Workers(AT_ONCE, WAITING)
