"""The table of mutants fits the code. `tests/slow/test_mutants.py` runs them."""

import re
from collections import Counter

from tests.support.mutants import MUTANTS
from tests.support.servers import ROOT


def test_every_old_text_occurs_once_in_its_file() -> None:
    texts = {name: (ROOT / name).read_text() for name in {mutant.file for mutant in MUTANTS} if (ROOT / name).exists()}
    counts = {mutant: texts.get(mutant.file, "").count(mutant.old) for mutant in MUTANTS}
    faults = [f"{count} times: {mutant}" for mutant, count in counts.items() if count != 1]
    assert not faults, "Change tests/slow/mutants.toml as the code was changed:\n" + "\n".join(faults)


def test_every_named_test_exists() -> None:
    faults = []
    for test in sorted({test for mutant in MUTANTS for test in mutant.tests}):
        name, _, function = test.partition("::")
        text = (ROOT / name).read_text() if (ROOT / name).exists() else ""
        if not text or (function and not re.search(rf"^(async )?def {function}\(", text, re.MULTILINE)):
            faults.append(test)
    assert not faults, "Change tests/slow/mutants.toml as the tests were changed:\n" + "\n".join(faults)


def test_no_mutant_is_listed_twice() -> None:
    changes = Counter((mutant.file, mutant.old, mutant.new) for mutant in MUTANTS)
    assert not [change for change, count in changes.items() if count > 1]
