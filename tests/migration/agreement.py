"""The claim that a plan agrees with the copy that follows it, checked for one collection and one store.

`check` makes the whole round: plan, refusal or consent, copy, every record seen again by our own eyes within what the
plan says of each field, and back into memory.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import note

from exitramp.digests import CollectionDigests
from exitramp.errors import ConsentMissing, DataInvalid
from exitramp.migration import compare_endpoints, migrate, plan_move
from exitramp.migration.moving import count_or_none
from exitramp.parity.alignment import read_all
from exitramp.ports import Origin, SinkLimits, Store
from exitramp.records import CollectionSpec, VectorField, VectorKind, Verdict
from exitramp.testing.memory import LIMITS
from exitramp.testing.memory_records import collections_of
from exitramp.testing.rows import NUMPY_TYPE, Row, Vector, batch_from_rows, rows_from_batch
from exitramp.transfer.plan import Fidelity, Plan, PlanLine
from exitramp.urls import Address, Network
from exitramp.wrappers import Endpoint, metric_overrides, open_endpoint
from tests.migration.collections_of_all_kinds import Whole
from tests.migration.damages import Damage
from tests.migration.harsh_store import HarshStore

NUMBERS = count()


@dataclass
class Target:
    """An address that holds nothing yet. `limits` makes a harsh store of it; `there` says whether anything is there."""

    address: Address
    limits: SinkLimits | None = None
    folder: Path | None = None
    damage: Damage | None = None

    def open(self) -> Endpoint:
        if self.limits is None:
            return open_endpoint(self.address)

        def opener(address: Address, network: Network) -> Store:
            return HarshStore(address.location, address.collection, limits=self.limits or LIMITS, damage=self.damage)

        return open_endpoint(self.address, opener=opener)

    def is_untouched(self) -> bool:
        with self.open() as endpoint:
            if count_or_none(endpoint) is not None:
                return False
        return self.folder is None or not any(self.folder.rglob("*"))


@contextmanager
def source_of(whole: Whole) -> Iterator[Endpoint]:
    """A memory store that holds the collection."""
    name = f"plan-source-{next(NUMBERS)}"
    try:
        with open_endpoint(Address("memory", name, whole.spec.name)) as endpoint:
            sink = endpoint.sink()
            sink.create(whole.spec, Origin(whole.spec, "test"))
            for start in range(0, len(whole.rows), 500):
                sink.upsert(batch_from_rows(whole.rows[start : start + 500], whole.spec))
            yield endpoint
    finally:
        collections_of(name).clear()


def check(whole: Whole, target: Target) -> Plan | None:
    """The claim, for one collection and one store. Returns the plan of a copy that landed."""
    with source_of(whole) as source:
        return check_copy(source, whole, target)


def check_copy(source: Endpoint, whole: Whole, target: Target) -> Plan | None:
    """The same for a source that holds what `whole` says."""
    try:
        with target.open() as endpoint:
            plan = plan_move(source, endpoint)
            plan.require_consent([line.subject for line in plan.lossy()])
    except DataInvalid as refusal:
        _assert_refused(source, target, refusal)
        return None
    note(f"{target.address.scheme}: {[(line.subject, str(line.fidelity), line.how) for line in plan.lines]}")
    lossy = [line.subject for line in plan.lossy()]
    if lossy:
        with target.open() as endpoint, pytest.raises(ConsentMissing, match="nothing was written"):
            migrate(source, endpoint, accept_loss=lossy[1:])
        assert target.is_untouched(), "a copy without consent left something behind"
    with target.open() as endpoint:
        result = migrate(source, endpoint, accept_loss=lossy)
    assert [finding.code for finding in result.findings if finding.code == "codec.edited"] == []
    expected = Verdict.PASS if whole.rows else Verdict.INCONCLUSIVE
    differing = {} if result.parity is None else {each.column: each.beyond for each in result.parity.fields}
    assert result.verdict is expected, (differing, [each.message for each in result.findings if each.verdict])
    with target.open() as endpoint:
        assert_kept(whole, endpoint, plan, target)
        assert_comes_back(endpoint, plan, result.digests)
        if not lossy and whole.rows:
            compared = compare_endpoints(source, endpoint)
            assert compared.verdict is Verdict.PASS, [each.message for each in compared.records.findings]
    return plan


def whole_of(endpoint: Endpoint) -> Whole:
    """What an endpoint gives back, as the collection to compare a copy of it with."""
    reader = endpoint.source()
    spec = reader.describe()
    rows = [row for batch in read_all(reader, batch_rows=100) for row in rows_from_batch(batch, spec)]
    return Whole(spec, tuple(rows))


def _assert_refused(source: Endpoint, target: Target, refusal: DataInvalid) -> None:
    """A refusal says what to do next, a copy refuses alike, and nothing was made."""
    assert refusal.hint, refusal.message
    assert not isinstance(refusal, ConsentMissing)
    with target.open() as endpoint, pytest.raises(DataInvalid) as caught:
        migrate(source, endpoint, accept_loss=())
    assert str(caught.value) == str(refusal)
    assert target.is_untouched(), "a copy that was refused left something behind"


def assert_kept(whole: Whole, endpoint: Endpoint, plan: Plan, target: Target, *, edited: bool = False) -> None:
    """Every record as it was, seen by our own eyes and within what the plan says of each field."""
    reader = endpoint.source()
    spec = reader.describe()
    if whole.rows and _keeps(target):
        assert spec.id_kind is whole.spec.id_kind
    if whole.rows or _keeps(target):
        assert spec.has_namespaces or not whole.spec.has_namespaces
        assert spec.has_documents or not whole.spec.has_documents
    got = [row for batch in read_all(reader, batch_rows=100) for row in rows_from_batch(batch, spec)]
    assert edited or reader.findings() == []
    found = {row.key: row for row in got}
    assert len(found) == len(got)
    assert set(found) == {row.key for row in whole.rows}
    lines = {line.subject: line for line in plan.lines}
    _assert_fields(whole.spec, spec, target)
    for row in whole.rows:
        back = found[row.key]
        assert back.document == row.document, row.key
        assert back.payload_text == row.payload_text, row.key
        for each in whole.spec.vectors:
            native = next(one.native for one in plan.layout.fields if one.original.column == each.column)
            _assert_vector(row, back, each, native, lines[each.column])


def _keeps(target: Target) -> bool:
    return target.limits is None or target.limits.keeps_origin


def _assert_fields(wanted: CollectionSpec, found: CollectionSpec, target: Target) -> None:
    def shapes(spec: CollectionSpec) -> dict[str, Any]:
        return {each.column: (each.kind, each.dtype, each.dimensions) for each in spec.vectors}

    assert shapes(found) == shapes(wanted)
    metrics = {each.column: each.metric for each in found.vectors}
    replaced = metric_overrides(target.address) or {}
    for each in wanted.vectors:
        # What the marker keeps stays searched by nothing, under the metric that it had.
        assert metrics[each.column] in {each.metric, replaced.get(each.name, each.metric)}, each.column


def _assert_vector(row: Row, back: Row, each: VectorField, native: VectorField | None, line: PlanLine) -> None:
    one, other = row.vectors.get(each.column), back.vectors.get(each.column)
    where = f"{row.key} {each.column}: {line.fidelity}, {line.how}"
    assert (one is None) == (other is None), where
    if one is None or other is None or _same_bits(one, other):
        return
    changes = set(line.changes) & {"magnitude", "precision", "unit", "ulp"}  # the others touch searches only
    assert changes, f"{where}: {one!r} came back as {other!r}"
    assert line.fidelity is (Fidelity.LOSSY if changes & {"magnitude", "precision"} else line.fidelity)
    assert each.kind is VectorKind.DENSE
    assert native is not None
    assert not isinstance(one, tuple)
    assert not isinstance(other, tuple)
    with np.errstate(all="ignore"):
        held = one.astype(NUMPY_TYPE[native.dtype])
        assert "precision" in changes or _same_bits(held.astype(one.dtype), one), where
        expected, got = held.astype("f8"), other.astype("f8")
        assert np.isfinite(got).all(), where
        if np.array_equal(expected, got):
            return
        length = np.linalg.norm(expected / max(np.abs(expected).max(), 1e-300)) * np.abs(expected).max()
        if "magnitude" in changes or "unit" in changes:
            assert "magnitude" in changes or abs(length - 1) <= 1.01e-5, where
            assert np.linalg.norm(got - expected / length) <= 2e-5, where
            return
        assert "ulp" in changes, where
        assert (np.abs(got - expected) <= 4.01 * np.spacing(np.abs(held)).astype("f8")).all(), where


def _same_bits(one: Vector, other: Vector) -> bool:
    if isinstance(one, tuple) or isinstance(other, tuple):
        sparse = [sorted(zip(pair[0].tolist(), pair[1].view("u4").tolist(), strict=True)) for pair in (one, other)]
        return sparse[0] == sparse[1]
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def assert_comes_back(endpoint: Endpoint, plan: Plan, digests: CollectionDigests) -> None:
    """Back into memory everything is exact, and what the plan called exact or reversible has the digests it had."""
    home = Target(Address("memory", f"plan-home-{next(NUMBERS)}", "back"))
    with home.open() as other:
        again = plan_move(endpoint, other)
        assert again.lossy() == ()
        result = migrate(endpoint, other)
    assert result.verdict is (Verdict.PASS if plan.rows else Verdict.INCONCLUSIVE)
    assert result.target_digests is not None
    assert result.target_digests.ids == digests.ids
    assert result.target_digests.payloads == digests.payloads
    exact = {Fidelity.EXACT, Fidelity.REVERSIBLE}
    for column, digest in digests.vectors.items():
        if any(line.subject == column and line.fidelity in exact for line in plan.lines):
            assert result.target_digests.vectors[column] == digest, column
    collections_of(home.address.location).clear()


@contextmanager
def fresh_folder(root: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
