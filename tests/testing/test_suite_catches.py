"""A suite that cannot fail is worthless: stores that are broken on purpose, and the tests that must notice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from exitramp.errors import UsageError
from exitramp.filters import Filter
from exitramp.ports import SearchSettings
from exitramp.testing import Outcome, run_suite
from exitramp.testing.memory import MemorySearch, MemorySink, MemorySource, MemoryStore
from tests.testing.broken import Broken, Searches
from tests.testing.broken_claims import CLAIMS
from tests.testing.broken_reading import READING
from tests.testing.broken_rows import ROWS
from tests.testing.broken_searching import SEARCHING, UNFILTERED, WITHOUT_FILTERS
from tests.testing.broken_servers import SERVERS, SOUND_SERVER, ServedStore
from tests.testing.broken_writing import WRITING
from tests.testing.test_memory import MemoryHarness

BROKEN = (*READING, *WRITING, *ROWS, *SEARCHING, *SERVERS, *CLAIMS)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_the_suite_fails_on_a_store_that(broken: Broken) -> None:
    for test in broken.caught_by:
        outcomes = run_suite(lambda folder: broken.harness(), only=lambda name: name == test)  # noqa: B023
        assert outcomes, f"the suite has no test called {test}"
        assert "failed" in {outcome.outcome for outcome in outcomes}, f"{test} did not notice: {outcomes}"
        _assert_honest_failures(outcomes)


def test_the_same_tests_pass_on_a_server_that_is_not_broken() -> None:
    """All others run on the memory store itself in `test_memory`."""
    named = {test for broken in SERVERS for test in broken.caught_by}
    outcomes = run_suite(lambda folder: SOUND_SERVER.harness(), only=lambda name: name in named)
    assert {outcome.outcome for outcome in outcomes} == {"passed"}, [o for o in outcomes if o.outcome != "passed"]


def test_a_store_without_filters_passes_if_it_says_so() -> None:
    class Refuses(Searches):
        def asked(self, where: Filter | None, settings: SearchSettings) -> tuple[Filter | None, SearchSettings]:
            if where is not None:
                raise UsageError("it has no filters")
            return where, settings

    honest = Broken("", (), search=Refuses, lacks=WITHOUT_FILTERS)
    [outcome] = run_suite(lambda folder: honest.harness(), only=lambda name: name == UNFILTERED)
    assert outcome.outcome == "passed"


def test_a_skip_carries_the_harness_own_reason() -> None:
    [outcome] = run_suite(lambda folder: MemoryHarness(), only=lambda name: name.endswith("in_a_new_process"))
    assert outcome == Outcome(outcome.test, "skipped", "new_process: nothing in it outlives the process")


def _assert_honest_failures(outcomes: Sequence[Outcome]) -> None:
    """The tests notice what the store did; they do not fail because these broken stores are badly written."""
    for outcome in outcomes:
        for clumsy in ("AttributeError", "NameError", "NotImplementedError", "ImportError", "UnboundLocalError"):
            assert not outcome.reason.startswith(clumsy), outcome


def test_every_broken_store_differs_from_the_reference_in_one_thing() -> None:
    for broken in BROKEN:
        parts = (broken.source, broken.sink, broken.search, broken.store)
        sound = (MemorySource, MemorySink, MemorySearch, MemoryStore, ServedStore)
        changed = [part for part in parts if part not in sound]
        assert len(changed) == (broken not in CLAIMS), broken.name
