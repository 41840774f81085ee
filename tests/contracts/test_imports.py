"""The import contracts cover every module: `lint-imports` checks what is listed, and this what must be listed."""

import ast
import re
import tomllib
from pathlib import Path

from tests.support.servers import ROOT

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
# They serve HTTP without Litestar: the process, and pictures in the admin site, which is FastAPI's.
ELSEWHERE = {"service.admin.pictures"}
LARGEST_FILE = 250  # lines


def _modules() -> dict[str, Path]:
    """The modules with content, by name."""
    paths = (path for path in (ROOT / "service").rglob("*.py") if path.stat().st_size)
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


def _imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    named = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return named | {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}


def _covers(expression: str, module: str) -> bool:
    """As import-linter reads it: * is one name, ** one or more, and what lies below counts too."""
    words = {"*": r"\w+", "**": r"\w+(\.\w+)*"}
    pattern = r"\.".join(words.get(part, re.escape(part)) for part in expression.split("."))
    return re.fullmatch(rf"{pattern}(\.\w+)*", module) is not None


def _is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_every_package_is_in_a_layer_and_in_order() -> None:
    layers, inside = (contract for contract in CONTRACTS if contract["type"] == "layers")
    assert layers["containers"] == ["service"]
    assert layers["exhaustive"], "lint-imports fails for a package in no layer"
    assert inside["containers"] == ["service.**"], "lint-imports checks every package, however deep"
    for contract in CONTRACTS:
        assert not contract.keys() & {"ignore_imports", "allow_indirect_imports", "exhaustive_ignores"}


def test_every_module_without_http_is_in_the_core() -> None:
    (core,) = (contract["source_modules"] for contract in CONTRACTS if contract["type"] == "forbidden")
    missing = {
        name
        for name, path in _modules().items()
        if not any(_covers(expression, name) for expression in core)
        and not _is_below(name, "service.web")
        and not any(_is_below(each, "litestar") or _is_below(each, "service.web") for each in _imports(path))
    }
    assert missing - ELSEWHERE == set(), "add them to the contract 'The core knows nothing of HTTP'"
    assert missing >= ELSEWHERE, "remove them from ELSEWHERE"


def test_no_module_is_too_long() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in _modules().items()}
    assert {name: length for name, length in lengths.items() if length > LARGEST_FILE} == {}
