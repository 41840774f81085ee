"""Prometheus metrics of this worker, or of all workers that one process started.

All metrics are made with the classes from here: prometheus_client decides when it is imported whether several processes
count together. Each worker then writes its numbers to files in a directory in TMPDIR, and any worker answers for all.
"""

import fcntl
import multiprocessing
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # of prometheus_client
_NAME = f"character-service-metrics-{os.getuid()}"


class _Shared:
    """The directory of the workers of one parent, created if necessary."""

    def __init__(self, parent: int) -> None:
        self.directory = Path(tempfile.gettempdir(), f"{_NAME}-{parent}")
        for other in self.directory.parent.glob(f"{_NAME}-*"):
            if other != self.directory:
                _remove_if_unused(other)
        self._lock = _join(self.directory)
        os.environ[_VARIABLE] = str(self.directory)

    def leave(self) -> None:
        """The last worker deletes the directory."""
        with suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(self.directory)


def _join(directory: Path) -> int:
    """Locks the directory as used by this process. The first one clears it: the numbers in it belong to an earlier
    process with the same id. Returns the lock, which the end of the process releases."""
    while True:
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        found = directory.lstat()
        if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
            raise SystemExit(f"{directory} belongs to another user: remove it.")
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for file in directory.glob("*.db"):
                file.unlink()
        fcntl.flock(lock, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), (directory / "lock").stat()):
                return lock
        os.close(lock)  # it was deleted meanwhile


def _remove_if_unused(directory: Path) -> None:
    with suppress(OSError):  # it is in use, or another process was faster
        lock = os.open(directory / "lock", os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory)
        finally:
            os.close(lock)


_parent = multiprocessing.parent_process()
_shared = _Shared(_parent.pid) if _parent and _parent.pid else None  # uvicorn starts workers with multiprocessing

from prometheus_client import (  # noqa: E402 (after the variable is set)
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead  # noqa: E402

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "leave", "render", "sample", "take_samples"]

CONTENT_TYPE = CONTENT_TYPE_LATEST


_sampled: list[tuple[Gauge, Callable[[], float]]] = []


def sample(gauge: Gauge, read: Callable[[], float]) -> None:
    """Sets ``gauge`` to what ``read`` returns, whenever this worker's numbers are needed. Gauge.set_function would do
    nothing with several workers."""
    _sampled.append((gauge, read))


def take_samples() -> None:
    for gauge, read in _sampled:
        gauge.set(read())


def render() -> bytes:
    """All metrics as text. The counts of a worker that has ended stay in the sums; its gauges do not."""
    take_samples()
    if _shared is None:
        return generate_latest(REGISTRY)
    for file in _shared.directory.glob("gauge_live*.db"):
        worker = int(file.stem.rpartition("_")[2])
        if not _is_alive(worker):
            mark_process_dead(worker, str(_shared.directory))
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(_shared.directory))
    return generate_latest(registry)


def leave() -> None:
    """Ends this worker's part. The last worker deletes the files."""
    if _shared is not None:
        _shared.leave()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True
