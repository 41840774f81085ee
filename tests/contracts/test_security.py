"""SECURITY.md names the tests that hold its promises: they are there."""

import re

from tests.support.servers import ROOT

NAMED = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", (ROOT / "SECURITY.md").read_text())


def test_each_test_that_is_named_exists() -> None:
    missing = [
        f"{file}::{name}"
        for file, name in NAMED
        if not re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_each_risk_names_one() -> None:
    rows = re.findall(r"^\| (API\d+) .*$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE)
    assert rows == [f"API{number}" for number in range(1, 11)]
    for line in re.findall(r"^\| API.*$", (ROOT / "SECURITY.md").read_text(), re.MULTILINE):
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", line), line
