"""The soak runs. In half a minute, nothing can be said about growth."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.servers import ROOT, VARIABLES, directory_of_its_own, end_processes_of

pytestmark = pytest.mark.slow

SHORT = ("--minutes=0.5", "--rate=8", "--characters=400", "--users=20")


def test_no_answer_is_wrong_and_the_figures_are_printed() -> None:
    with directory_of_its_own() as directory:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.soak", *SHORT, f"--data-dir={directory / 'data'}"],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name not in VARIABLES},
                capture_output=True,
                text=True,
                timeout=400,
            )
        finally:
            end_processes_of(directory / "data")
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    assert ", 0 wrong; " in done.stdout
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", done.stdout, re.MULTILINE))
    figures = ("worker 1, MiB", "worker 2, MiB", "parent, MiB", "worker 1, descriptors", "PostgreSQL connections")
    assert all(float(rows[each].replace(",", "")) > 1 for each in figures), rows
    assert {"files in storage", "messages in the outbox", "pictures that wait", "lag of the feed, s"} <= set(rows)
