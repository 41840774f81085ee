"""The list of the files of a backup: ``manifest.json`` in its directory, and the checksum of that file beside it."""

import asyncio
import hashlib
import os
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

DUMP, FILES, NAMES = "dump", "files", "names_of_files.txt"
_MANIFEST, _CHECKSUM = "manifest.json", "manifest.sha256"
_FORMAT = 1  # of the directory


class DamagedBackup(Exception):
    """The message says in one line what is wrong with the backup."""


class File(msgspec.Struct, frozen=True):
    """A file of the backup; the name is its path in the directory."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    format: int = _FORMAT
    version: str  # of the service
    made_at: datetime
    postgresql: str
    migrations: list[tuple[str, str]]  # the app and the id of each
    last_migration: str  # of the service
    rows: dict[str, int]  # by table
    storage: Literal["directory", "bucket"]  # a backup of a bucket has only the names of the uploaded files
    missing: list[str]  # uploaded files that the database names, but the storage did not have
    files: list[File]


async def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Writes both files durably."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    checksum = f"{hashlib.sha256(content).hexdigest()}  {_MANIFEST}\n".encode()  # as sha256sum writes it
    for name, each in ((_MANIFEST, content), (_CHECKSUM, checksum)):
        await asyncio.to_thread(write_durably, directory / name, each)


async def verified_manifest(directory: Path) -> Manifest:
    """The manifest. Raises DamagedBackup unless every file is there as it was written."""
    return await asyncio.to_thread(_verify, directory)


async def files_below(directory: Path) -> list[File]:
    """All files of the directory, by name."""
    return await asyncio.to_thread(
        lambda: [_described(directory, path) for path in sorted(directory.rglob("*")) if path.is_file()]
    )


def _verify(directory: Path) -> Manifest:
    try:
        content, checksum = ((directory / name).read_bytes() for name in (_MANIFEST, _CHECKSUM))
    except (FileNotFoundError, NotADirectoryError):
        raise DamagedBackup(f"{directory} is not a complete backup: {_MANIFEST} or {_CHECKSUM} is missing.") from None
    if checksum.split()[:1] != [hashlib.sha256(content).hexdigest().encode()]:
        raise DamagedBackup(f"The backup is damaged: {_MANIFEST} does not match {_CHECKSUM}.")
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.ValidationError as error:
        raise DamagedBackup(f"This release cannot read the backup: {error}.") from None
    if manifest.format != _FORMAT:
        raise DamagedBackup(f"This release cannot read format {manifest.format} of backups.")
    expected = {file.name for file in manifest.files}
    # pg_restore and the operator would take such a file for a part of the backup
    if added := sorted(set(_names_below(directory)) - expected - {_MANIFEST, _CHECKSUM}):
        raise DamagedBackup(f"The backup is damaged: {added[0]} does not belong to it.")
    for file in manifest.files:
        path = directory / file.name
        if not path.is_file():
            raise DamagedBackup(f"The backup is damaged: {file.name} is missing.")
        if _described(directory, path) != file:
            raise DamagedBackup(f"The backup is damaged: {file.name} is not as it was written.")
    return manifest


def _names_below(directory: Path) -> list[str]:
    return [str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()]


def _described(directory: Path, path: Path) -> File:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return File(str(path.relative_to(directory)), path.stat().st_size, digest)


def write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
