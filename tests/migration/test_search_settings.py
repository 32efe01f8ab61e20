"""Search settings that a store does not take are refused before anything is read."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exitramp.cli.main import run
from exitramp.errors import UsageError
from exitramp.migration import comparing, migrate
from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing import Row, batch_from_rows
from exitramp.wrappers import open_endpoint
from tests.house.own_clients import addresses

SPEC = CollectionSpec(
    "articles", IdKind.STRING, (VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.EUCLIDEAN, 8),)
)
OPTIONS = {
    "faiss": "ef",
    "hnswlib": "ef",
    "usearch": "expansion_search",
    "qdrant": "hnsw_ef",
    "lancedb": "nprobes",
    "chroma": "ef_search",
    "redis": "ef",
    "pgvector": "ef_search",
}


def filled() -> str:
    address = f"memory:{uuid.uuid4()}#articles"
    rng = np.random.default_rng(3)
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(SPEC, Origin(SPEC, "test"))
        rows = [Row(f"r{n}", None, None, None, {"vector": rng.random(8, np.float32)}) for n in range(5)]
        sink.upsert(batch_from_rows(rows, SPEC))
    return address


def searched(address: str, settings: str) -> str:
    place, separator, name = address.partition("#")
    return f"{place}{'&' if '?' in place else '?'}search={settings}{separator}{name}"


def nothing_is_read(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("the records were read")


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_value_that_the_store_does_not_take_is_refused_before_a_record_is_read(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, source = OPTIONS[kind], filled()
    monkeypatch.setattr(comparing, "compare_records", nothing_is_read)
    with addresses(kind, tmp_path) as address:
        target = address("articles")
        with open_endpoint(source) as one, open_endpoint(target) as other:
            migrate(one, other, accept_loss=[])
        for settings in (f"{option}:banana", f"{option}:-1", f"{option}:true", "banana:1"):
            name, _, value = settings.partition(":")
            with (
                open_endpoint(source) as one,
                open_endpoint(searched(target, settings)) as other,
                pytest.raises(UsageError) as caught,
            ):
                comparing.compare_endpoints(one, other)
            text = f"{caught.value.message} {caught.value.hint}"
            assert name in text
            assert value in text or name == "banana", text
        with (
            open_endpoint(source) as one,
            open_endpoint(target) as other,
            pytest.raises(AssertionError, match="the records were read"),
        ):
            comparing.compare_endpoints(one, other)


def test_it_is_a_usage_error_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = filled(), f"qdrant:{tmp_path}/q#articles"
    with open_endpoint(source) as one, open_endpoint(target) as other:
        migrate(one, other, accept_loss=[])
    assert run(["compare", source, searched(target, "hnsw_ef:banana")]) == 2
    assert "hnsw_ef:banana" in capsys.readouterr().err
    assert run(["compare", source, searched(target, "exact:maybe")]) == 2
    assert run(["compare", source, searched(target, "hnsw_ef:16"), "--ids", str(tmp_path / "ids")]) in {0, 3}
