"""Whether DATA_DIR can be written and has space."""

import shutil
import tempfile
from pathlib import Path

# A disk is nearly full when less than both are free: 5 % of a large disk are still much
_FREE_SHARE = 0.05
_FREE_BYTES = 5 * 1024**3


def check_storage(data_dir: Path) -> str:
    """Raises OSError when no file can be written. Permissions alone prove nothing: root has them all, and a disk can be
    full or read-only."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=data_dir) as file:
        file.write(b"health")
    disk = shutil.disk_usage(data_dir)
    return "nearly full" if disk.free < min(_FREE_BYTES, disk.total * _FREE_SHARE) else "ok"
