"""What Chroma keeps as it is, measured on 1.5.9 both embedded and over HTTP, which agree."""

from __future__ import annotations

import re
from typing import Final

from exitramp.ports import DocumentRoom, NameRule, PayloadLimits, SinkLimits
from exitramp.ports.collection_metadata import KEY
from exitramp.records import IdKind, Metric

INDEX_KEY: Final = "chroma"
"""The key in a spec's `index` under which Chroma's own settings and the user's collection metadata stand."""
METRICS: Final = {"cosine": Metric.COSINE, "l2": Metric.EUCLIDEAN, "ip": Metric.DOT}
SPACES: Final = {metric: space for space, metric in METRICS.items()}

# Rows/s of add at 384 numbers: 2.0k (250), 2.3k (500), 2.4k (1000), 2.0k (2000), 2.3k (5000), all within noise.
WRITE_ROWS: Final = 1000
_NAMES: Final = NameRule(
    r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+\Z)[a-zA-Z0-9][a-zA-Z0-9._-]*[a-zA-Z0-9]", minimum=3, maximum=512
)
LIMITS: Final = SinkLimits(
    id_kinds=frozenset({IdKind.STRING}),
    metrics=frozenset(SPACES),
    payload=PayloadLimits(
        # Null, NaN and what is nested are refused or dropped; a list holds one type and at least one item.
        types=frozenset({"bool", "int", "float", "string", "list"}),
        item_types=frozenset({"bool", "int", "float", "string"}),
        negative_zero=False,
        integer_bits=64,
        # 80,000 floats of 15 digits came back as they were, and one in ten of those with 16 or 17 did not: they are
        # parsed imprecisely, once embedded (at most 2 ulp off) and twice over HTTP (at most 3).
        float_digits=15,
        float_exponent=22,
        key_pattern=r"(?s)(?![$#]|chroma:).+",  # "", $ and # are refused, `chroma:` is swallowed
        empty_payload=False,
    ),
    names=_NAMES,
    documents=DocumentRoom.NATIVE,
    # Cosine divides by a float32 norm and multiplies by it again: 2 ulp at most, unless the norm's square overflows
    # (NaN: beyond 1.8e19) or vanishes (zeros, also of a large vector whose numbers are each below 1e-22), and numbers
    # that are subnormal by then lose digits. Dot and euclidean keep every finite number to the bit.
    rounds=frozenset({Metric.COSINE}),
    subnormal_vectors=False,
    vector_magnitude=1e15,
    vector_magnitude_least=1e-21,
    magnitude_metrics=frozenset({Metric.COSINE}),
    keeps_origin=True,
    metadata=(INDEX_KEY, KEY),
    adopts_empty=False,  # what an application made stays its own
    batch_rows=WRITE_ROWS,
    durable=True,
    index_settings=frozenset({"m", "ef_construction", "ef_search"}),
)
LEAST_NORM: Final = 1e-21
GREATEST_NORM: Final = 1.8e19


def is_name(name: str) -> bool:
    return _NAMES.minimum <= len(name) <= _NAMES.maximum and re.fullmatch(_NAMES.pattern, name) is not None
