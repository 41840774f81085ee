"""Whether files can be stored, and have space."""

import shutil
import tempfile
from pathlib import Path

# A disk is nearly full when less than both are free: 5 % of a large disk are still much
_FREE_SHARE = 0.05
_FREE_BYTES = 5 * 1024**3


def check_storage(files: Path) -> str:
    """Examines the directory of files, which may be a mount of its own; if it does not exist yet, the nearest one above
    it. Creates neither. Raises OSError when no file can be written. Permissions alone prove nothing: root has them all,
    and a disk can be full or read-only."""
    directory = next(each for each in (files, *files.absolute().parents) if each.exists())
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(b"health")
        file.flush()
    disk = shutil.disk_usage(directory)
    return "nearly full" if disk.free < min(_FREE_BYTES, disk.total * _FREE_SHARE) else "ok"
