"""One read of the documents before anything is embedded: how many there are, and what embedding them takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from exitramp import canonical
from exitramp.arrow import dense_matrix, record_keys
from exitramp.embedding_identity import PROBE_COSINE, PROBES, Comparison, Identified, Sameness, compare
from exitramp.errors import ModelDiffers, StoreProtocolError
from exitramp.ports import Embedder, VectorSource
from exitramp.records import RecordKey, VectorField, VectorKind
from exitramp.reindex.calling import Caller
from exitramp.reindex.spool import Spool, text_hash

IDS_SHOWN = 20


@dataclass(slots=True)
class Look:
    """What the documents are. `texts` differ from each other; `rows` - `missing` - `texts` are repetitions.

    `tokens` and `texts_left` are of what is still to be embedded, by `token_source`.
    """

    rows: int = 0
    missing: int = 0
    missing_ids: list[str] = field(default_factory=list)
    texts: int = 0
    texts_left: int = 0
    tokens_left: int = 0
    token_source: str = "estimated"
    reused: int = 0
    probed: int = 0

    @property
    def repeated(self) -> int:
        return self.rows - self.missing - self.texts


def texts_of(batch: pa.RecordBatch) -> list[str | None]:
    """Each row's text; None where it has none, or one of white space alone, of which no model makes a vector."""
    if "document" not in batch.schema.names:
        return [None] * batch.num_rows
    return [text if text is not None and text.strip() else None for text in batch.column("document").to_pylist()]


Texts = Callable[[pa.RecordBatch], list[str | None]]
"""Where the text of each row is taken from: `texts_of`, or what `texts_under` makes."""


def texts_under(key: str | None) -> Texts:
    """The texts under a top-level key of the payload; `key` None: the documents."""
    if key is None:
        return texts_of

    def found(batch: pa.RecordBatch) -> list[str | None]:
        payloads = (canonical.loads(text) if text else {} for text in batch.column("payload").to_pylist())
        values = [each.get(key) if isinstance(each, dict) else None for each in payloads]
        return [value if isinstance(value, str) and value.strip() else None for value in values]

    return found


def pages_of(source: VectorSource, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Every batch of a whole scan. Raises `StoreProtocolError` where the scan does not come to its end."""
    for partition in source.partitions(1):
        last = False
        for page in source.scan(partition, batch_rows=batch_rows):
            last = page.last
            if page.batch.num_rows:
                yield page.batch
        if not last:
            raise StoreProtocolError(
                "the source's scan stopped without its end signal", hint="run the same command again"
            )


class Standing:
    """What the target has already by the same model: its vectors need not be paid for again.

    Raises `ModelDiffers` with both fingerprints where they are known to be of another model.
    """

    def __init__(
        self, source: VectorSource, there: VectorField, given: Identified, where: str, texts: Texts = texts_of
    ) -> None:
        self._texts = texts
        self._source, self._there, self._where, self._given = source, there, where, given
        self.compared: Comparison = compare(Identified.of(there), given)
        if self.compared.sameness is Sameness.DIFFERENT:
            raise ModelDiffers(
                f"{where} holds vectors of another embedding model: {self.compared.differing_words} differ; its own is "
                f"[{Identified.of(there)}], the one given is [{given}]",
                hint="embed into a new collection, or beside the old vectors with --field",
            )
        self.shown = self.compared.sameness is Sameness.SAME

    def vectors(self, wanted: Mapping[bytes, tuple[RecordKey, str]]) -> dict[bytes, npt.NDArray[np.float32]]:
        """Those of the texts that stand there unchanged under the same key."""
        by_key = {key: digest for digest, (key, _) in wanted.items()}
        if not by_key:
            return {}
        batch = self._source.fetch(list(by_key))
        column = batch.column(self._there.column)
        matrix, valid = dense_matrix(column), np.asarray(column.is_valid())
        found: dict[bytes, npt.NDArray[np.float32]] = {}
        for row, (key, text) in enumerate(zip(record_keys(batch), self._texts(batch), strict=True)):
            digest = by_key.get(key)
            if digest is not None and text is not None and bool(valid[row]) and text_hash(text) == digest:
                found[digest] = matrix[row].astype(np.float32)
        return found

    def probe(
        self,
        texts: Mapping[bytes, str],
        stored: Mapping[bytes, npt.NDArray[np.float32]],
        caller: Caller,
        spool: Spool,
    ) -> None:
        """Embed a few of the texts again and hold them against what is stored. Raises `ModelDiffers`."""
        key = f"probe-{caller.key(list(texts))}"
        spool.sending(key, list(texts))
        got = caller.call(texts)
        spool.received(key, replace(got, vectors={}))
        worst = min((_cosine(vector, stored[digest]) for digest, vector in got.vectors.items()), default=1.0)
        if worst < PROBE_COSINE:
            raise ModelDiffers(
                f"{self._where} holds vectors that the model does not make of the same texts: the least cosine of "
                f"{len(got.vectors)} texts embedded again is {worst:.4f}; its own is "
                f"[{Identified.of(self._there)}], the one given is [{self._given}]",
                hint="embed into a new collection",
            )
        self.shown = True


def standing_of(source: VectorSource, new: VectorField, where: str, texts: Texts = texts_of) -> Standing | None:
    """The target's own field of that name, where it has one of dense vectors."""
    for each in source.describe().vectors:
        if each.kind is VectorKind.DENSE and each.name == new.name:
            return Standing(source, each, Identified.of(new), where, texts)
    return None


def look(
    source: VectorSource,
    spool: Spool,
    embedder: Embedder,
    *,
    standing: Standing | None,
    probing: Caller | None,
    batch_rows: int,
    texts: Texts = texts_of,
    progress: Callable[[int], None] = lambda rows: None,
) -> Look:
    """Read every document once, count, and take over from `standing` what is there. `probing` None: nothing is sent."""
    found = Look()
    spool.forget_reused()
    for batch in pages_of(source, batch_rows):
        found.rows += batch.num_rows
        wanted: dict[bytes, tuple[RecordKey, str]] = {}
        for key, text in zip(record_keys(batch), texts(batch), strict=True):
            if text is None:
                found.missing += 1
                if len(found.missing_ids) < IDS_SHOWN:
                    found.missing_ids.append(str(key))
            else:
                wanted[text_hash(text)] = (key, text)
        fresh = spool.note(list(wanted))
        if standing is not None and fresh:
            there = _reused(spool, standing, probing, {each: wanted[each] for each in fresh}, found)
            fresh = [each for each in fresh if each not in there]
        if fresh:
            usage = embedder.count_tokens([wanted[each][1] for each in fresh])
            found.tokens_left += usage.prompt_tokens
            found.token_source = usage.source
            found.texts_left += len(fresh)
        progress(found.rows)
    found.texts = spool.count("")
    return found


def _reused(
    spool: Spool,
    standing: Standing,
    probing: Caller | None,
    wanted: Mapping[bytes, tuple[RecordKey, str]],
    found: Look,
) -> frozenset[bytes]:
    there = standing.vectors(wanted)
    if there and not standing.shown and probing is not None:
        chosen = {digest: wanted[digest][1] for digest in sorted(there)[:PROBES]}
        standing.probe(chosen, there, probing, spool)
        found.probed = len(chosen)
    spool.reuse(there)
    found.reused += len(there)
    return frozenset(there)


def _cosine(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    one, other = a.astype(np.float64), b.astype(np.float64)
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0
