"""A record that a server takes no request for, in the middle of a restore: named, and the rest comes later."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from exitramp.cli.main import run
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.registry import service_adapter
from exitramp.testing.rows import Row, batch_from_rows
from exitramp.urls import Address
from exitramp.wrappers import open_endpoint
from tests.adapters.narrow_proxy import narrowed

ROWS, HUGE = 5200, 4100
"""So many that some were acknowledged before the huge one is met."""
SPEC = CollectionSpec(
    "articles", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 4),), has_documents=True
)
Served = Callable[[str], Address]


@pytest.fixture(name="served")
def _served(tmp_path: Path) -> Iterator[Served]:
    with ExitStack() as ending:

        def serve(name: str) -> Address:
            service = service_adapter(name).make(str(tmp_path / name), 0, {})
            ending.callback(service.stop)
            return service.start()

        yield serve


def put(address: str, numbers: range, document: str) -> None:
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(SPEC, Origin(SPEC, "test"))
        rows = [
            Row(f"doc-{number:05d}", None, document, {"n": number}, {"vector": np.full(4, number, np.float32)})
            for number in numbers
        ]
        sink.upsert(batch_from_rows(rows, SPEC))
        sink.flush()


@pytest.fixture(name="source")
def _source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    address = f"memory:{tmp_path}#articles"
    put(address, range(ROWS), "short")
    return address


def count(address: str) -> int:
    with open_endpoint(address) as endpoint:
        return endpoint.source().count()


def test_a_chroma_server_refuses_a_record_by_name_and_the_copy_goes_on_once_it_is_shorter(
    served: Served, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"{served('chroma-run')}#articles"
    put(source, range(HUGE, HUGE + 1), "x" * 42_000_000)
    for _ in range(2):  # as often as it is tried
        assert run(["copy", source, target]) == 5
        said = capsys.readouterr().err
        assert re.search(rf"record 'doc-0{HUGE}' takes 42,000,\d{{3}} bytes as JSON, and .*no request that large", said)
        assert "run the same command again" in said
        assert 2000 <= count(target) < ROWS
    put(source, range(HUGE, HUGE + 1), "shorter")
    assert run(["copy", source, target]) == 0
    assert "went on where an earlier run had stopped" in capsys.readouterr().out
    assert count(target) == ROWS


def test_requests_to_a_qdrant_server_are_cut_to_what_stands_before_it(
    served: Served, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    address = served("qdrant-shim")
    said = '{"status":{"error":"JSON payload ({size} bytes) is larger than allowed (limit: 20000 bytes)."},"time":0.0}'
    put(source, range(HUGE, HUGE + 1), "x" * 30_000)
    with narrowed(address.port or 0, 20_000, said) as port:
        target = f"qdrant+http://127.0.0.1:{port}#articles"
        assert run(["copy", source, target]) == 5
        told = capsys.readouterr().err
        assert re.search(rf"record 'doc-0{HUGE}' takes 30,\d{{3}} bytes as JSON, and .*limit: 20000 bytes", told)
        put(source, range(HUGE, HUGE + 1), "x" * 19_000)
        assert run(["copy", source, target]) == 0
        assert count(target) == ROWS
