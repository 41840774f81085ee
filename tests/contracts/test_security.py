"""SECURITY.md names the tests of its promises: they exist, and `make test` runs them."""

import ast
import re

from tests.support.servers import ROOT

RISKS = re.split(r"^### (API\d+) ", (ROOT / "SECURITY.md").read_text(), flags=re.MULTILINE)[1:]
NAMED = [
    (file, name)
    for text in RISKS[1::2]
    for file, names in re.findall(r"^- `(tests/[\w/]+\.py)`: ((?:`test_\w+`[,\s]*)+)", text, re.MULTILINE)
    for name in re.findall(r"test_\w+", names)
]


def test_each_test_that_is_named_exists() -> None:
    missing = [
        f"{file}::{name}"
        for file, name in NAMED
        if not re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_make_test_runs_each_test_that_is_named() -> None:
    assert [f"{file}::{name}" for file, name in NAMED if _is_slow(file, name)] == []


def _is_slow(file: str, name: str) -> bool:
    """Marked slow itself, or by its module's ``pytestmark``."""
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.Assign) and "pytestmark" in ast.unparse(node.targets[0]):
            marks = [node.value]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            marks = node.decorator_list
        else:
            continue
        if any("mark.slow" in ast.unparse(mark) for mark in marks):
            return True
    return False


def test_each_risk_names_one() -> None:
    assert RISKS[::2] == [f"API{number}" for number in range(1, 11)]
    assert all("\n- `tests/" in text for text in RISKS[1::2])
