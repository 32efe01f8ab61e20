"""The pages about stores are made of the suite's results, of all of it, and of all stores."""

from __future__ import annotations

import inspect
import json

import pytest

from exitramp.testing import StoreConformance
from tests.tools.stores_page import RESULTS, ROOT, TOUR, adapters, adapters_page, page


def test_the_pages_are_fresh() -> None:
    assert (ROOT / "docs" / "stores.md").read_text(encoding="utf-8") == page(), "run `make stores`"
    assert (ROOT / "adapters" / "README.md").read_text(encoding="utf-8") == adapters_page(), "run `make stores`"


def test_the_results_are_of_every_test_of_the_suite_and_none_failed() -> None:
    tests = {name for name, _ in inspect.getmembers(StoreConformance, inspect.isfunction) if name.startswith("test_")}
    for store, classes in json.loads(RESULTS.read_text(encoding="utf-8"))["stores"].items():
        whole = [found for found in classes.values() if {name.partition("[")[0] for name in found["tests"]} == tests]
        assert whole, f"{store}: run `make stores`"
        failed = [name for found in classes.values() for name, (word, _) in found["tests"].items() if word == "failed"]
        assert not failed, store


def test_every_adapter_that_is_a_sink_was_held_to_the_suite() -> None:
    stores = json.loads(RESULTS.read_text(encoding="utf-8"))["stores"]
    sinks = {adapter.scheme for adapter in adapters() if "sink" in adapter.roles}
    assert sinks - {"dump"} == set(stores)  # a dump is written once and never changed: it has tests of its own


def test_every_pair_of_the_tour_passes() -> None:
    if not TOUR.exists():
        pytest.skip("the pairs were not measured yet: make tour")
    pairs = json.loads(TOUR.read_text(encoding="utf-8"))["pairs"]
    assert [pair for pair in pairs if pair["compared"] != 0] == []
    kinds = {pair["source"] for pair in pairs}
    assert len(pairs) == len(kinds) * (len(kinds) - 1)
