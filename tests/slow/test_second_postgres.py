"""The whole suite once more, on another PostgreSQL than the one that comes with the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import ROOT

DEBIANS = Path("/usr/lib/postgresql/15/bin")


@pytest.mark.slow
def test_the_suite_passes_on_debians_postgresql_15() -> None:
    if not (DEBIANS / "postgres").exists():
        pytest.skip(f"There is no {DEBIANS}/postgres: install postgresql-15.")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"],  # as `make test`
        cwd=ROOT, env=os.environ | {"POSTGRES_BIN": str(DEBIANS)}, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout
