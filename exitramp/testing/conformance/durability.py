"""What was flushed is there after the process was killed with SIGKILL, whole, whatever was being written then."""

from __future__ import annotations

import signal
import threading
from typing import IO

import pyarrow as pa
import pytest

from exitramp.codec import EncodingSink
from exitramp.ports import SinkLimits
from exitramp.records import CollectionSpec
from exitramp.testing.child import WRITE_SEED, start
from exitramp.testing.conformance.compare import assert_same_keys, assert_same_records
from exitramp.testing.conformance.harness import Feature, StoreHarness, need
from exitramp.testing.conformance.steps import NAME, limits_of, opened, origin_of, read
from exitramp.testing.data import hard_records
from exitramp.testing.rows import Row, rows_from_batch
from exitramp.testing.within import spec_within, text_bytes_within

ACKNOWLEDGED = 3
BATCH_ROWS = 40
ROWS = 4000
START_SECONDS = 60.0


class DurabilityConformance:
    def test_what_was_flushed_survives_the_writer_being_killed(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        if not limits.durable:
            pytest.skip("durable: the store declares that a flush does not survive kill -9")
        need(harness, Feature.NEW_PROCESS)
        spec = spec_within(limits, NAME)
        child = start(
            {
                "do": "write",
                "address": harness.address(spec.name),
                "spec": spec.to_json(),
                "rows": ROWS,
                "batch_rows": BATCH_ROWS,
                "text_bytes": text_bytes_within(limits),
                "tool_version": harness.tool_version,
            }
        )
        watchdog = threading.Timer(START_SECONDS, child.kill)  # a child that hangs must not hang the suite
        watchdog.start()
        try:
            out: IO[str] = child.stdout  # type: ignore[assignment]
            heard = [out.readline().strip() for _ in range(ACKNOWLEDGED)]
            child.send_signal(signal.SIGKILL)  # it is writing the next batch by now
            last = [line.strip() for line in out if line.strip()]
            _, err = child.communicate()
        finally:
            watchdog.cancel()
            child.kill()
        assert heard == [str(number) for number in range(ACKNOWLEDGED)], f"the writer failed:\n{err[-2000:]}"
        assert child.returncode == -signal.SIGKILL
        _assert_acknowledged_are_there(harness, spec, ACKNOWLEDGED + len(last))

    def test_what_was_flushed_survives_the_server_being_killed(self, harness: StoreHarness) -> None:
        limits = limits_of(harness)
        if not limits.durable:
            pytest.skip("durable: the store declares that a flush does not survive kill -9")
        need(harness, Feature.SERVER_KILL)
        spec = spec_within(limits, NAME)
        with opened(harness) as store:
            sink = EncodingSink(store.sink())
            sink.create(spec, origin_of(spec))
            for batch in _batches(spec, limits)[:ACKNOWLEDGED]:
                sink.upsert(batch)
                sink.flush()
            harness.kill()
        harness.restart()
        _assert_acknowledged_are_there(harness, spec, ACKNOWLEDGED)


def _batches(spec: CollectionSpec, limits: SinkLimits) -> list[pa.RecordBatch]:
    room = text_bytes_within(limits)
    return list(hard_records(spec, ROWS, WRITE_SEED, batch_rows=BATCH_ROWS, text_bytes=room))


def _assert_acknowledged_are_there(harness: StoreHarness, spec: CollectionSpec, acknowledged: int) -> None:
    """All rows of the acknowledged batches, once and as written; of later batches, only rows as they were written."""
    limits = limits_of(harness)
    written: list[Row] = [row for batch in _batches(spec, limits) for row in rows_from_batch(batch, spec)]
    certain = written[: acknowledged * BATCH_ROWS]
    everything = {row.key: row for row in written}
    found = read(harness, spec.name).rows
    strange = [row.key for row in found if row.key not in everything]
    assert not strange, f"records that were never written: {strange[:5]}"
    extra = {row.key for row in found} - {row.key for row in certain}
    expected = [*certain, *(everything[key] for key in extra)]
    assert_same_keys([row.key for row in expected], [row.key for row in found], "after kill -9")
    assert_same_records(expected, found, spec, limits, "after kill -9")
