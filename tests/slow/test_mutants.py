"""Mutation testing: each mutant of mutants.toml must make one of the tests that it names fail.

The mutants run in two copies of the source tree, so two run at once. `-k scopes` runs those of a file. `make test`
shows that the tests pass without a mutant.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from tests.support.mutants import MAX_SECONDS, MUTANTS, Mutant, SourceTree
from tests.support.servers import directory_of_its_own, end_processes_of

AT_ONCE = 2

pytestmark = pytest.mark.slow

Outcome = tuple[int, str]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Mapping[Mutant | None, Future[Outcome]]]:
    """The outcome of each selected mutant, and of the collection of all tests that they name (None)."""
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    selected = [given["mutant"] for given in parameters if "mutant" in given]
    trees: SimpleQueue[SourceTree] = SimpleQueue()

    def run(mutant: Mutant | None) -> Outcome:
        tree = trees.get()
        try:
            if mutant is None:
                names = {test for each in selected or MUTANTS for test in each.tests}
                return tree.run(sorted(names), "--collect-only")
            with tree.mutated(mutant):
                return tree.run(list(mutant.tests), "-x")
        finally:
            trees.put(tree)

    with directory_of_its_own() as directory:
        for number in range(AT_ONCE):
            trees.put(SourceTree(directory / str(number)))
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            yield {mutant: pool.submit(run, mutant) for mutant in (None, *selected)}
        finally:
            pool.shutdown(cancel_futures=True)
            end_processes_of(directory)


def test_all_tests_are_in_the_copy(outcomes: Mapping[Mutant | None, Future[Outcome]]) -> None:
    status, output = outcomes[None].result()
    assert status == 0, output[-5000:]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_test_fails(mutant: Mutant, outcomes: Mapping[Mutant | None, Future[Outcome]]) -> None:
    try:
        status, output = outcomes[mutant].result()
    except subprocess.TimeoutExpired:
        pytest.fail(f"Its tests took more than {MAX_SECONDS} seconds.")
    is_killed = status == 1 and re.search(r"\d+ failed", output) is not None
    assert is_killed or status == 0, f"Its tests did not run:\n{output[-1500:]}"
    if mutant.reason:
        assert not is_killed, "A test fails now: remove the reason."
    else:
        assert is_killed, f"It survives: all pass in {', '.join(mutant.tests)}."
