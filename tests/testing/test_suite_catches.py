"""A suite that cannot fail is worthless: stores that are broken on purpose, and the tests that must notice."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import pytest

from exitramp.errors import UsageError
from exitramp.filters import Filter
from exitramp.ports import SearchSettings, Store
from exitramp.records import CollectionSpec
from exitramp.testing import Outcome, Row, StoreConformance, run_suite
from exitramp.testing.memory import MemorySearch, MemorySink, MemorySource, MemoryStore
from tests.adapters.test_faiss import FaissHarness
from tests.testing.broken import Broken, Searches
from tests.testing.broken_claims import CLAIMS
from tests.testing.broken_limits import LIMITING, SOUND_LIMITS
from tests.testing.broken_many import MANY
from tests.testing.broken_reading import READING
from tests.testing.broken_rows import ROWS
from tests.testing.broken_searching import SEARCHING, UNFILTERED, WITHOUT_FILTERS
from tests.testing.broken_servers import SERVERS, SOUND_SERVER, ServedStore
from tests.testing.broken_writing import WRITING
from tests.testing.test_memory import MemoryHarness

OTHER_PROCESSES = (
    "test_a_scan_resumes_after_each_cursor_in_a_new_process",
    "test_what_was_flushed_survives_the_writer_being_killed",
)
BROKEN = (*READING, *WRITING, *ROWS, *SEARCHING, *SERVERS, *CLAIMS, *LIMITING, *MANY)


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


def test_the_same_tests_pass_on_a_store_that_keeps_what_it_declares() -> None:
    named = {test for broken in LIMITING for test in broken.caught_by}
    outcomes = [
        outcome
        for sound in SOUND_LIMITS
        for outcome in run_suite(lambda folder: sound.harness(), only=lambda name: name in named)  # noqa: B023
    ]
    assert {outcome.outcome for outcome in outcomes} == {"passed", "skipped"}, outcomes
    assert {outcome.test for outcome in outcomes if outcome.outcome == "passed"} == named


class OtherFiles(FaissHarness):
    """A new process is sent to another folder than the one that is looked at here."""

    def open(self, collection: str) -> Store:
        here = FaissHarness(self.folder / "here")
        here.folder.mkdir(exist_ok=True)
        return here.open(collection)

    def raw_seed(self, collection: str, spec: CollectionSpec, rows: Sequence[Row]) -> None:
        for folder, held in ((self.folder, rows[::2]), (self.folder / "here", rows)):
            folder.mkdir(exist_ok=True)
            FaissHarness(folder).raw_seed(collection, spec, held)


@pytest.mark.parametrize("test", OTHER_PROCESSES)
def test_the_suite_fails_where_another_process_sees_other_records(test: str) -> None:
    [outcome] = run_suite(OtherFiles, only=lambda name: name == test)
    assert outcome.outcome == "failed"
    assert outcome.reason.startswith(("AssertionError", "CollectionMissing")), outcome.reason
    [outcome] = run_suite(FaissHarness, only=lambda name: name == test)
    assert outcome.outcome == "passed", outcome.reason


def test_every_test_of_the_suite_was_seen_to_fail() -> None:
    shown = {test for broken in BROKEN for test in broken.caught_by} | {*OTHER_PROCESSES}
    shown.add("test_metrics_are_told_apart")  # it asks nothing of a store, but whether the data can tell metrics apart
    assert {name for name, _ in inspect.getmembers(StoreConformance) if name.startswith("test_")} == shown


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
