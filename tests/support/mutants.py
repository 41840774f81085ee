"""The table of mutants, and a copy of the source tree in which the tests of one run."""

import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.support.servers import ROOT

TABLE = ROOT / "tests/slow/mutants.toml"
MAX_SECONDS = 180  # for the tests of one mutant
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".data", ".env", ".*_cache", "__pycache__", "node_modules", "build"
)
# Importing all others takes two seconds.
PLUGINS = ("-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", "-p", "tests.support.without_shrinking")


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change to the service that must make one of ``tests`` fail: ``old`` becomes ``new`` in ``file``.

    ``tests`` are test files, or one test of a slow file as ``file::test``. ``reason`` says why no test fails; only
    survivors have one.
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    reason: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.old!r} -> {self.new!r}"


MUTANTS = msgspec.convert(tomllib.loads(TABLE.read_text())["mutant"], list[Mutant])


class SourceTree:
    """A copy of the source tree below ``root``. Temporary files of the tests lie below ``root``, too."""

    def __init__(self, root: Path) -> None:
        self.tree = root / "tree"
        self.temporary = root / "tmp"
        self.temporary.mkdir(parents=True)
        shutil.copytree(ROOT, self.tree, ignore=NOT_COPIED)
        # By default Python compares time and size of a source file; two mutants of one file may have the same.
        command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "service"]
        subprocess.run(command, cwd=self.tree, check=True)

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        file = self.tree / mutant.file
        original = file.read_text()
        file.write_text(original.replace(mutant.old, mutant.new))
        try:
            yield
        finally:
            file.write_text(original)

    def run(self, tests: list[str], *options: str) -> tuple[int, str]:
        """Pytest's exit status and output. Raises TimeoutExpired."""
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *PLUGINS, "--tb=line", *options, *tests],
            cwd=self.tree,
            env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "TMPDIR": str(self.temporary)},
            capture_output=True, text=True, timeout=MAX_SECONDS,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr
