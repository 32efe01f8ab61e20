"""Small stores of the tests' own, and drill files over them."""

from __future__ import annotations

from pathlib import Path

from exitramp.ports import Origin
from exitramp.records import CollectionSpec, DType, IdKind, Metric, VectorField, VectorKind
from exitramp.testing.data import hard_records
from exitramp.wrappers import open_endpoint

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.DOT, 12)
SPEC = CollectionSpec("articles", IdKind.STRING, (FIELD,), has_documents=True)


def fill(address: str, *, rows: int = 60, spec: CollectionSpec = SPEC) -> str:
    """`rows` seeded records at `address`, which is returned."""
    with open_endpoint(address) as endpoint:
        sink = endpoint.sink()
        sink.create(spec, Origin(spec, "test"))
        for batch in hard_records(spec, rows, 3):
            sink.upsert(batch)
        sink.flush()
    return address


def drill_text(
    primary: str,
    substitute: str,
    steps: str,
    *,
    stop: str = "{}",
    data: str = "{}",
    objectives: str = "{rpo_records: 0}",
    chat: bool = False,
) -> str:
    """A drill file over two stores given by address, with mock chat vendors if asked for."""
    vendors = ("  chat: {service: mock-openai}\n", "  chat: {service: mock-anthropic}\n") if chat else ("", "")
    return (
        "version: 1\nname: small\ntitle: Small\nmode: stressed\n"
        f"objectives: {objectives}\nstop: {stop}\ndata: {data}\n"
        f'primary:\n  store: {{address: "{primary}"}}\n{vendors[0]}'
        f'substitute:\n  store: {{address: "{substitute}"}}\n{vendors[1]}'
        "orchestration: {depth_k: 3, attempt_timeout_seconds: 0.5, breaker_cooldown_seconds: 0.2}\n"
        f"steps:\n{steps}"
    )


def write_drill(folder: Path, text: str) -> Path:
    file = folder / "small.yaml"
    file.write_text(text, encoding="utf-8")
    return file
