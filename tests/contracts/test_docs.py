"""The documents: their links, the files, settings and bounds they name, and the diagram of the layers."""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from service.schemas import (
    DESCRIPTION_LENGTH,
    LONG_DESCRIPTION_LENGTH,
    MOST_TAGS,
    NAME_LENGTH,
    PROMPT_LENGTH,
    TAG_LENGTH,
)
from service.templates.rules import bounds, nodes, subset
from tests.faults.cluster.faults import FAULTS as CLUSTER
from tests.faults.faults import ALL as ONE_MACHINE
from tests.support.servers import ROOT, VARIABLES

DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
    if "node_modules" not in path.parts
)
ARCHITECTURE = ROOT / "docs/architecture.md"
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`((?:\.?[\w-]+/)*[\w.-]+\.(?:py|md|json|toml|conf|txt|in|example)|(?:service|tests|docs)/[\w/]+)`")
_ROOMS = ("service/", "tests/", "docs/", "deploy/", "benchmarks/", "piccolo_migrations/")
_MOST_LINES = 200  # of the README


def _named(documents: list[Path]) -> list[Any]:
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in documents]


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", _named(DOCUMENTS))
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", document.read_text())):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        if not path.exists() or (anchor and anchor not in anchors(path.read_text())):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("document", _named(DOCUMENTS))
def test_files_that_are_named_exist(document: Path) -> None:
    named = _FILE.findall(_FENCE.sub("", document.read_text()))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    names = {Path(path).name for path in tracked} or {path.name for path in ROOT.rglob("*.py")}
    missing = [
        path
        for path in named
        if not (ROOT / path).exists() and (path.startswith(_ROOMS) or ("/" not in path and path not in names))
    ]
    assert missing == []


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= _MOST_LINES


def test_every_setting_in_the_readme_exists() -> None:
    section = (ROOT / "README.md").read_text().partition("## Configuration")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([A-Z_]+)`", section, re.MULTILINE)
    assert len(rows) == 10
    assert set(rows) <= VARIABLES


def test_bounds_are_those_of_the_code() -> None:
    api, guide = (ROOT / "docs/api.md").read_text(), (ROOT / "docs/guide.md").read_text()
    assert f"| Name, prompt | {NAME_LENGTH} and {PROMPT_LENGTH:,} characters |" in api
    description = f"{LONG_DESCRIPTION_LENGTH:,} characters of a character, {DESCRIPTION_LENGTH:,} of a template"
    assert f"| Description | {description} or a relationship." in api
    assert f"| Tags | {MOST_TAGS} of {TAG_LENGTH} characters |" in api
    schema = f"{subset.SCHEMA_BYTES // 1024} KiB, {subset.SCHEMA_DEPTH} levels, {subset.SCHEMA_PROPERTIES} properties"
    assert f"| Schema | {schema}, {subset.SCHEMA_VALUES:,} values |" in guide
    attributes = f"{bounds.ATTRIBUTES_BYTES // 1024} KiB, {bounds.ATTRIBUTES_MEMBERS} members"
    values = f"{bounds.ATTRIBUTES_VALUES:,} values, {bounds.ATTRIBUTES_DEPTH} levels"
    assert f"| Attributes | {attributes}, {values} |" in guide
    assert f"| Numbers in attributes | 0, or an absolute value of at least {bounds.SMALLEST_NUMBER} |" in guide
    defaults = f"{bounds.ATTRIBUTES_VALUES:,} values and {bounds.ATTRIBUTES_BYTES // 1024} KiB in all"
    assert f"| Defaults | {defaults}, where the defaults inside a default count, too |" in guide
    assert f"| Texts that must match a pattern | {nodes.PATTERN_TEXT:,} code points in all for one character |" in guide


def test_every_keyword_of_schemas_is_in_the_guide() -> None:
    guide = (ROOT / "docs/guide.md").read_text()
    assert [keyword for keyword in subset._KEYWORDS if f"`{keyword}`" not in guide] == []


def test_every_target_of_make_has_a_help_line() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    helped = re.findall(r"^([a-z-]+):.*  ## \S", makefile, re.MULTILINE)
    assert sorted(helped) == sorted(phony[1].split())


def _diagram() -> str:
    """The layers of the import contract, the highest first, as Mermaid."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one.get("containers") == ["service"])
    boxes = [f'    layer{number}["{layer.replace(" | ", " · ")}"]' for number, layer in enumerate(layers)]
    arrows = "    " + " --> ".join(f"layer{number}" for number in range(len(layers)))
    return "\n".join(["flowchart TD", *boxes, arrows]) + "\n"


def test_the_diagram_shows_the_import_contract() -> None:
    text = ARCHITECTURE.read_text()
    if os.environ.get("UPDATE_SNAPSHOT"):
        text = re.sub(r"(?<=^```mermaid\n).*?(?=^```$)", lambda _: _diagram(), text, flags=re.MULTILINE | re.DOTALL)
        ARCHITECTURE.write_text(text)
    assert f"```mermaid\n{_diagram()}```" in text, "run again with UPDATE_SNAPSHOT=1 if the change is meant"


def test_the_page_of_failure_tests_has_a_row_for_each() -> None:
    rows = re.findall(r"^\|.+\| `(\w+)` \|", (ROOT / "docs/failure-tests.md").read_text(), re.MULTILINE)
    faults = [fault.__name__ for fault in (*ONE_MACHINE, *CLUSTER)]
    assert sorted(rows) == sorted([*faults, "cursors_of_the_lost_timeline"])
