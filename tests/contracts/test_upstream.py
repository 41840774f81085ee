"""The patches for other projects fit the installed versions, so their overrides here are still needed."""

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.servers import ROOT

PATCHES = sorted((ROOT / "docs/upstream").glob("*.patch"))


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_a_patch_fits(patch: Path, tmp_path: Path) -> None:
    [file] = [line.removeprefix("+++ b/") for line in patch.read_text().splitlines() if line.startswith("+++ b/")]
    package = find_spec(file.partition("/")[0])
    assert package is not None
    assert package.origin is not None
    (tmp_path / file).parent.mkdir(parents=True)
    shutil.copy(Path(package.origin).parents[1] / file, tmp_path / file)
    done = subprocess.run(["git", "apply", "--verbose", patch], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    compile((tmp_path / file).read_text(), file, "exec")


def test_each_patch_is_named() -> None:
    page = (ROOT / "docs/upstream/README.md").read_text()
    assert PATCHES
    assert [patch.name for patch in PATCHES if f"({patch.name})" not in page] == []
