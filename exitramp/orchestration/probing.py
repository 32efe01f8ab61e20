"""Whether a collection's vectors are an embedder's, seen by embedding a few of its documents again.

For a collection that does not say which model made it: the first documents that are found are embedded, and their
vectors held against those that stand there. It tells three things apart: they agree, they clearly do not, and neither,
such as where another text was embedded than the one that is kept.
"""

from __future__ import annotations

from typing import Final

from exitramp.clock import Clock
from exitramp.embedding_identity import PROBE_COSINE, PROBES, fingerprint
from exitramp.errors import ModelDiffers
from exitramp.orchestration.reranking import embed_told
from exitramp.ports import Embedder, Purpose
from exitramp.records import VectorField
from exitramp.wording import counted
from exitramp.wrappers import Endpoint

FOREIGN_COSINE: Final = 0.5
"""Half of the documents below it: of another model. Those of one model are above 0.9 even where a title was put before
the text; those of two models of one length are about 0."""


def probed(endpoint: Endpoint, field: VectorField, embedder: Embedder, seconds: float, clock: Clock) -> str | None:
    """What was seen, as a sentence; None where no document has both a text and a vector. Raises `ModelDiffers`."""
    import numpy as np

    from exitramp.arrow import dense_matrix

    source = endpoint.source()
    page = next(iter(source.scan(source.partitions(1)[0], batch_rows=PROBES)), None)
    if page is None or "document" not in page.batch.schema.names:
        return None
    column = page.batch.column(field.column)
    valid = np.asarray(column.is_valid())
    texts = page.batch.column("document").to_pylist()
    rows = [row for row, text in enumerate(texts) if text is not None and text.strip() and bool(valid[row])][:PROBES]
    if not rows:
        return None
    stored = dense_matrix(column)[rows].astype(np.float64)
    made = embed_told(embedder, [texts[row] for row in rows], Purpose.DOCUMENT, seconds, clock).astype(np.float64)
    number = counted(len(rows), "document that was embedded again", "documents that were embedded again")
    if made.shape != stored.shape:
        said = f"its vectors have {stored.shape[1]} dimensions, the embedder's {made.shape[1]}"
        raise _differs(endpoint, field, embedder, said)
    lengths = np.linalg.norm(stored, axis=1) * np.linalg.norm(made, axis=1)
    cosines = np.sum(stored * made, axis=1) / np.where(lengths > 0, lengths, 1.0)
    worst, middle = float(cosines.min()), float(np.median(cosines))
    if middle < FOREIGN_COSINE:
        raise _differs(
            endpoint, field, embedder, f"of {number}, half have a cosine below {middle:.2f} to their own vectors"
        )
    if worst < PROBE_COSINE:
        return (
            f"{endpoint.address}: whether its vectors are the embedder's remains open: of {number}, the least cosine "
            f"to its own vector is {worst:.3f}; next: see whether another text was embedded than the one that is kept"
        )
    return f"{endpoint.address}: it does not name its model, and {number} have the vectors that it holds: they agree"


def _differs(endpoint: Endpoint, field: VectorField, embedder: Embedder, said: str) -> ModelDiffers:
    return ModelDiffers(
        f"{endpoint.address}: its vectors are of another embedding model than the questions: {said}; the one given is "
        f"[{fingerprint(embedder.model(), embedder.dimensions)}]",
        hint="name the embedder that made the collection, or embed it anew: exitramp reindex",
    )
