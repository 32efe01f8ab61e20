"""Vectors of every kind and dtype come back to the bit, or within the class that the sink declares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from exitramp.codec import lay_out
from exitramp.errors import DataInvalid, ExitrampError
from exitramp.ports import SinkLimits
from exitramp.records import CollectionSpec, DType, Metric, VectorField, VectorKind
from exitramp.testing.conformance.compare import assert_same_keys, assert_same_records
from exitramp.testing.conformance.harness import StoreHarness, need_origin
from exitramp.testing.conformance.steps import NAME, limits_of, opened, origin_of, read, write, write_batches
from exitramp.testing.data import hard_records, hard_vectors
from exitramp.testing.rows import NUMPY_TYPE, Row, batch_from_rows, rows_from_batch
from exitramp.testing.within import combinations, rows_within, spec_within, text_bytes_within, wide_spec


class VectorConformance:
    def test_hard_vectors_within_the_limits_come_back_without_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        for dtype, metric in combinations(limits):
            spec = spec_within(limits, f"{dtype.value}-{metric.value}", pair=(dtype, metric))
            [field] = spec.vectors
            hard = hard_vectors(field, limits, seed=1)
            rows = [
                replace(row, vectors={field.column: vector})
                for row, (_, vector) in zip(rows_within(spec, limits, len(hard), 1), hard, strict=True)
            ]
            write(harness, spec, rows, encoded=False)
            what = f"{dtype.value} under {metric.value}"
            assert_same_records(rows, read(harness, spec.name, encoded=False).rows, spec, limits, what)
            assert_same_records(rows, harness.raw_read(spec.name), spec, limits, f"{what}, raw")

    def test_vectors_that_the_raw_sdk_wrote_are_read_as_they_are(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        for dtype, metric in combinations(limits):
            spec = spec_within(limits, f"raw-{dtype.value}-{metric.value}", pair=(dtype, metric))
            rows = rows_within(spec, limits, 20, 2)
            harness.raw_seed(spec.name, spec, rows)
            found = read(harness, spec.name, encoded=False)
            assert_same_records(rows, found.rows, spec, limits, f"{dtype.value} under {metric.value}")

    def test_hard_vectors_of_every_dtype_come_back_through_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        need_origin(limits, "it cannot tell which fields the codec keeps")
        plain = spec_within(limits, NAME).vectors[0]
        for dtype in DType:
            metric = Metric.HAMMING if dtype is DType.BINARY else plain.metric
            if metric in limits.normalises | limits.rounds and dtype not in limits.dtypes:
                continue  # cast to another type and then changed there: the plan calls that lossy
            # The first field satisfies a store that needs one vector for each record; the second is the one tested.
            field = VectorField("tested", VectorKind.DENSE, dtype, metric, 16)
            spec = replace(spec_within(limits, f"coded-{dtype.value}"), vectors=(plain, field))
            hard = _hard_where_reversible(spec, field, limits)
            rows = [
                replace(row, vectors={plain.column: row.vectors[plain.column], field.column: vector})
                for row, (_, vector) in zip(
                    rows_within(replace(spec, vectors=(plain,)), limits, len(hard), 3), hard, strict=True
                )
            ]
            write(harness, spec, rows)
            assert_same_records(rows, read(harness, spec.name).rows, spec, limits, f"{dtype.value} in a second field")

    def test_hard_vectors_in_the_first_field_come_back_through_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        for dtype, metric in combinations(limits):
            spec = spec_within(limits, f"odd-{dtype.value}-{metric.value}", pair=(dtype, metric))
            [field] = spec.vectors
            hard = hard_vectors(field, None, seed=4)
            rows = [
                replace(row, vectors={field.column: vector})
                for row, (_, vector) in zip(rows_within(spec, limits, len(hard), 4), hard, strict=True)
            ]
            write(harness, spec, rows)
            what = f"{dtype.value} under {metric.value}"
            assert_same_records(rows, read(harness, spec.name).rows, spec, limits, what)

    def test_numbers_of_a_narrower_type_come_back_through_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        need_origin(limits, "it cannot tell that a field was of a narrower type")
        metric = spec_within(limits, NAME).vectors[0].metric
        if metric in limits.normalises | limits.rounds or metric is Metric.HAMMING:
            pytest.skip("every metric of this store changes vectors, so none keeps a narrower type exactly")
        for dtype in (DType.FLOAT16, DType.INT8):
            field = VectorField("", VectorKind.DENSE, dtype, metric, 16)
            spec = replace(spec_within(limits, f"narrow-{dtype.value}"), vectors=(field,))
            hard = [vector for _, vector in hard_vectors(field, limits, seed=5)]
            rows = [
                replace(row, vectors={field.column: vector})
                for row, vector in zip(rows_within(spec, limits, len(hard), 5), hard, strict=True)
            ]
            write(harness, spec, rows)
            assert_same_records(rows, read(harness, spec.name).rows, spec, limits, f"{dtype.value} in the first field")

    def test_named_sparse_and_multi_vectors_come_back_through_the_codec(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = wide_spec(limits, NAME)
        batches = list(hard_records(spec, 120, seed=6, batch_rows=50, text_bytes=text_bytes_within(limits)))
        write_batches(harness, spec, batches)
        reading = read(harness)
        if limits.keeps_origin:
            assert {field.column for field in reading.spec.vectors} == {field.column for field in spec.vectors}
            expected = [row for batch in batches for row in rows_from_batch(batch, spec)]
            assert_same_records(expected, reading.rows, spec, limits, "the whole record model")
        else:
            keys = [row.key for batch in batches for row in rows_from_batch(batch, spec)]
            assert_same_keys(keys, [row.key for row in reading.rows], "the whole record model")

    def test_a_record_without_a_vector_has_none_afterwards(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec = spec_within(limits, NAME)
        [field] = spec.vectors
        unit = np.zeros(
            field.item_count, dtype=np.asarray(rows_within(spec, limits, 1, 7)[0].vectors[field.column]).dtype
        )
        unit[0] = 1
        plain = rows_within(spec, limits, 6, 7)
        rows: list[Row] = [replace(row, vectors={}) if place % 2 else row for place, row in enumerate(plain)]
        rows[2] = replace(rows[2], vectors={field.column: unit})  # what may stand in for a missing one elsewhere
        write(harness, spec, rows)
        assert_same_records(rows, read(harness).rows, spec, limits, "records without a vector")

    def test_a_dimension_mismatch_is_refused_and_writes_nothing(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        spec, other = spec_within(limits, NAME), spec_within(limits, NAME, dimensions=24)
        rows = rows_within(spec, limits, 3, 8)
        with opened(harness) as store:
            sink = store.sink()
            sink.create(spec, origin_of(spec))
            sink.upsert(batch_from_rows(rows, spec))
            sink.flush()
            with pytest.raises(ExitrampError) as caught:
                sink.upsert(batch_from_rows(rows_within(other, limits, 5, 9)[3:], other))
                sink.flush()
            assert isinstance(caught.value, DataInvalid) or not caught.value.retryable, "it will be refused again"
        left = [row.key for row in harness.raw_read(spec.name)]
        assert_same_keys([row.key for row in rows], left, "after the refusal")


def _hard_where_reversible(
    spec: CollectionSpec, field: VectorField, limits: SinkLimits
) -> list[tuple[str, npt.NDArray[np.generic]]]:
    """Hard vectors of a field; where the sink holds it in fewer bits, such as are exact in those: others are lossy."""
    [native] = [layout.native for layout in lay_out(spec, limits).fields if layout.original is field]
    wide = NUMPY_TYPE[field.dtype]
    if native is None or NUMPY_TYPE[native.dtype].itemsize >= wide.itemsize:
        return hard_vectors(field, None, seed=3)
    return [(name, vector.astype(wide)) for name, vector in hard_vectors(native, limits, seed=3)]
