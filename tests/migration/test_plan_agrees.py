"""What a plan says is what a copy does: for every collection of the record model and every store it may go into.

Exactly one of three things happens. The plan promises, and the copy lands and keeps the promise, field by field; or it
announces losses by name, and nothing is written without consent, and with consent nothing else is lost; or it refuses
before the first write and says what to do. `EXITRAMP_PLAN_EXAMPLES` sets how many collections are tried for each store.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from exitramp.errors import DataInvalid
from exitramp.migration import migrate, plan_move
from exitramp.ports import SinkLimits
from exitramp.records import Verdict
from exitramp.transfer.plan import Fidelity
from exitramp.urls import Address
from exitramp.wrappers import open_endpoint
from tests.migration.agreement import (
    NUMBERS,
    Target,
    assert_comes_back,
    assert_kept,
    check,
    check_copy,
    fresh_folder,
    source_of,
    whole_of,
)
from tests.migration.collections_of_all_kinds import Whole, collections
from tests.migration.damages import DAMAGES, Damage
from tests.migration.harsh_store import sink_limits

EXAMPLES = int(os.environ.get("EXITRAMP_PLAN_EXAMPLES", "0"))


def tried(examples: int) -> Callable[[Any], Any]:
    """A few collections, always the same, unless a campaign asks for other and more ones."""
    return settings(
        max_examples=EXAMPLES or examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        print_blob=bool(EXAMPLES),
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate, Phase.shrink] if EXAMPLES else [Phase.explicit, Phase.generate],
    )


WANTED_NAMES = st.sampled_from(["col", "col", "col", "Some Articles", "ü/x", "a"])


@tried(40)
@given(collections())
def test_a_memory_store_keeps_everything_as_its_plan_says(whole: Whole) -> None:
    target = Target(Address("memory", f"plan-target-{next(NUMBERS)}", "col"))
    plan = check(whole, target)
    assert plan is not None
    assert {line.fidelity for line in plan.lines} <= {Fidelity.EXACT, Fidelity.REVERSIBLE}


@tried(90)
@given(collections(), sink_limits())
def test_a_store_of_any_limits_does_as_the_plan_says(whole: Whole, limits: SinkLimits) -> None:
    check(whole, Target(Address("memory", f"plan-target-{next(NUMBERS)}", "col"), limits))


@tried(40)
@given(collections(), sink_limits(), st.sampled_from(["dot", "cosine", "euclidean"]))
def test_another_metric_is_planned_as_it_is_done(whole: Whole, limits: SinkLimits, metric: str) -> None:
    names = [each.name for each in whole.spec.vectors] or [""]
    wanted = f"{names[0]}:{metric}" if names[0] else metric
    address = Address("memory", f"plan-target-{next(NUMBERS)}", "col", {"metric": wanted})
    plan = check(whole, Target(address, limits))
    for each in plan.layout.fields if plan else ():
        if each.native is not None and each.original.name == names[0]:
            assert each.native.metric == metric


@tried(60)
@given(collections(), sink_limits(), st.sampled_from(sorted(DAMAGES)), st.integers(0, 2))
def test_damage_beyond_what_was_announced_is_never_passed(
    whole: Whole, limits: SinkLimits, damage: str, place: int
) -> None:
    done = Damage(damage, place)
    target = Target(Address("memory", f"plan-target-{next(NUMBERS)}", "col"), limits, damage=done)
    with source_of(whole) as source, target.open() as endpoint:
        try:
            plan = plan_move(source, endpoint)
            result = migrate(source, endpoint, accept_loss=[line.subject for line in plan.lossy()])
        except DataInvalid:
            return  # refused, or the damage was such that nothing could be read
        note(f"{done.what}: {[(line.subject, str(line.fidelity), line.how) for line in plan.lines]}")
        if not done.what or result.verdict is Verdict.FAIL:
            return
        # What is rounded back, or stands in the marker too, may be damaged without a record's coming back otherwise.
        assert_kept(whole, endpoint, plan, target, edited=True)


@tried(25)
@given(collections(), sink_limits(), sink_limits())
def test_from_store_to_store_every_copy_does_as_its_plan_says(
    whole: Whole, limits: SinkLimits, others: SinkLimits
) -> None:
    first = Target(Address("memory", f"plan-target-{next(NUMBERS)}", "first"), limits)
    if check(whole, first) is not None:
        with first.open() as source:
            second = Target(Address("memory", f"{first.address.location}-2", "col"), others)
            check_copy(source, whole_of(source), second)


@tried(25)
@given(collections(), WANTED_NAMES)
def test_qdrant_does_as_the_plan_says(tmp_path_factory: pytest.TempPathFactory, whole: Whole, name: str) -> None:
    pytest.importorskip("qdrant_edge")
    with fresh_folder(tmp_path_factory.getbasetemp()) as folder:
        check(whole, Target(Address("qdrant", str(folder), name), folder=folder))


@tried(30)
@given(collections(), WANTED_NAMES)
def test_faiss_does_as_the_plan_says(tmp_path_factory: pytest.TempPathFactory, whole: Whole, name: str) -> None:
    pytest.importorskip("faiss")
    with fresh_folder(tmp_path_factory.getbasetemp()) as folder:
        check(whole, Target(Address("faiss", f"{folder}/c.faiss", name), folder=folder))


@tried(15)
@given(collections(most_rows=20), st.sampled_from(["HNSW8", "IVF2,Flat", "IVF16,Flat"]))
def test_a_faiss_index_does_as_the_plan_says(
    tmp_path_factory: pytest.TempPathFactory, whole: Whole, factory: str
) -> None:
    pytest.importorskip("faiss")
    with fresh_folder(tmp_path_factory.getbasetemp()) as folder:
        check(whole, Target(Address("faiss", f"{folder}/c.faiss", "col", {"factory": factory}), folder=folder))


@tried(30)
@given(collections(), WANTED_NAMES)
def test_chroma_does_as_the_plan_says(tmp_path_factory: pytest.TempPathFactory, whole: Whole, name: str) -> None:
    pytest.importorskip("chromadb")
    # One database for all: making one takes ten times as long as a collection in it.
    folder = tmp_path_factory.getbasetemp() / "chroma"
    target = Target(Address("chroma", str(folder), f"{name}{next(NUMBERS)}" if name == "col" else name))
    check(whole, target)


@tried(30)
@given(collections())
def test_a_dump_keeps_everything_as_it_is(tmp_path_factory: pytest.TempPathFactory, whole: Whole) -> None:
    with fresh_folder(tmp_path_factory.getbasetemp()) as folder, source_of(whole) as source:
        address = Address("dump", f"{folder}/dump")
        with open_endpoint(address) as endpoint:
            result = migrate(source, endpoint)
        expected = Verdict.PASS if whole.rows else Verdict.INCONCLUSIVE
        assert result.verdict in {expected, Verdict.PASS}
        with open_endpoint(address) as endpoint:
            plan = plan_move(source, Target(Address("memory", "nowhere", "col")).open())
            assert_kept(whole, endpoint, plan, Target(address))
            assert_comes_back(endpoint, plan, result.digests)
