"""Writing records into a store, and what it can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from exitramp.ports.reading import Origin, StoreIdentity
from exitramp.records import (
    CollectionSpec,
    DType,
    Finding,
    IdKind,
    Metric,
    RecordKey,
    VectorKind,
)

if TYPE_CHECKING:
    import pyarrow as pa


class DocumentRoom(StrEnum):
    """Where a sink keeps a record's text: beside the payload, or nowhere but in the payload."""

    NATIVE = "native"
    PAYLOAD = "payload"


@dataclass(frozen=True, slots=True)
class PayloadLimits:
    """Which payloads a sink gives back exactly as they were. What lies outside is the codec's to encode.

    types: the `canonical.type_name`s kept exactly as values of a top-level key.
    item_types: those kept as items of a list; `mixed_lists` whether one list may hold several of them.
    nested: whether objects inside objects and lists are kept (then `types` holds at every depth).
    empty_lists, empty_objects: whether those come back; negative_zero: whether -0.0 does.
    integer_bits: integers in [-2^(bits-1), 2^(bits-1)-1] are kept; `integer_maximum` overrides the upper end.
    float_digits: floats of at most that many significant digits are kept exactly, the others within 4 ulp; None: all.
    float_exponent: with `float_digits`, the decimal exponent's greatest magnitude that is still exact.
    key_pattern: a regular expression that a kept top-level key matches fully.
    string_bytes: the longest text kept, in UTF-8 bytes (None: any).
    depth: how many objects and lists may stand in each other under a top-level key (None: any number).
    empty_payload: whether `{}` comes back as `{}`; absent_payload: whether no payload comes back as none.

    The last four say which of the kept values stand in another form for whoever reads the store without exitramp; the
    plan calls them reversible. They are types as above, but `int` means integers beyond 2^53 alone, and `key` a key
    that begins with `$exitramp:` itself.
    tagged_types: those that stand as tagged JSON, `{"$exitramp:TYPE": …}` (docs/format.md), at any depth.
    tagged_items: those that do inside lists and objects, and not as the value of a top-level key.
    text_types: those that stand as a text, with nothing in it of what they were, at any depth.
    apart_types: those that as the value of a top-level key stand in a text apart, and not under their key; a list of
        one type goes with that, and `list` stands for the others.
    """

    types: frozenset[str]
    item_types: frozenset[str] = frozenset()
    mixed_lists: bool = False
    nested: bool = False
    empty_lists: bool = False
    empty_objects: bool = False
    negative_zero: bool = True
    integer_bits: int = 64
    integer_maximum: int | None = None
    float_digits: int | None = None
    float_exponent: int = 22
    key_pattern: str = r"(?s).*"
    string_bytes: int | None = None
    depth: int | None = None
    empty_payload: bool = True
    absent_payload: bool = True
    tagged_types: frozenset[str] = frozenset()
    tagged_items: frozenset[str] = frozenset()
    text_types: frozenset[str] = frozenset()
    apart_types: frozenset[str] = frozenset()


TAGGED_TYPES = frozenset({"nonfinite", "timestamp", "date", "time", "decimal", "uuid", "bytes", "int", "key"})
"""The `tagged_types` of a store that keeps payloads as their canonical JSON."""


@dataclass(frozen=True, slots=True)
class NameRule:
    """Which names a store takes: those of `minimum` to `maximum` characters that `pattern` matches from end to end."""

    pattern: str = r"(?s).+"
    minimum: int = 1
    maximum: int = 255


@dataclass(frozen=True, slots=True)
class SinkLimits:
    """What a sink can hold as it is, and what it changes. The plan is worked out from this and nothing else.

    id_kinds: kinds it takes; `id_bytes` the longest text id in UTF-8 bytes (None: no limit); `id_pattern` a regular
        expression that a text id matches fully (None: any text).
    names: which names its collections may have.
    metrics: what its dense and multi fields are searched by.
    vector_kinds, dtypes: which vectors it holds; `dimensions` how many numbers in one at most (None: any number).
    unnamed_vector, named_vectors: whether a field "" or fields with names can be made; `dense_fields` how many.
    field_names: which names its vector fields may have; `shared_field_names` whether two of different kinds the same.
    sparse_metrics: what its sparse fields are searched by.
    vectors_required: whether every record must have a value in every dense field; `vector_free` whether a collection
        may have no vector field at all.
    namespaces: whether records stand in namespaces of its own; `documents` where their texts stand.
    normalises: metrics under which it scales vectors to unit length (magnitude is then lost).
    rounds: metrics under which vectors come back about one ulp off.
    nonfinite_vectors: whether NaN and infinities are taken and given back bit for bit.
    negative_zero_vectors, subnormal_vectors: whether those come back bit for bit.
    vector_magnitude: the greatest magnitude of one number that is kept exactly (None: all finite ones).
    vector_magnitude_least: what the greatest number of a vector must reach for it to be kept (None: any; zeros are).
    magnitude_metrics: the metrics under which those two hold (None: all).
    zero_vectors: whether one of zeros alone is taken and given back.
    unit_slack: under `normalises`, vectors of at most `unit_dimensions` numbers are given back bit for bit if their
        length is this near to 1.
    empty_multi: whether a list of no vectors is taken; sparse_duplicates: whether an index may stand twice.
    record_bytes: the most that one record may take (None: any), counted as JSON: its id, namespace, document and
        payload as they stand there, and 20 bytes for each number of its vectors.
    payload_bytes: the most that the payload of one record may take (None: any), as JSON in UTF-8, with what stands in
        it because the sink has no other room for it, such as a document.
    keeps_origin: whether it gives back what `create` was told of the origin.
    adopts_empty: whether `create` tells the origin to an empty collection that somebody else made too.
    batch_rows: the most rows of one `upsert`.
    flush_rows: how many rows should lie between two flushes, where each costs much by itself (0: any number).
    records_least: the fewest records, where there are any at all, that what `finish` builds can be made of.
    durable: whether `flush` really makes what was written survive kill -9.
    metadata: where in a spec's `index` it finds what it keeps as the collection's own metadata (None: it has no room
        for such a thing); see `ports.collection_metadata`.
    index_settings: which settings of a graph `create` takes over from a store of another kind: `m`, `ef_construction`,
        `ef_search`; see `ports.index_settings`.
    files: what a collection is kept in, where that is more than one file: whoever moves one must move all.
    verbatim: every record of the model is taken and given back as it is, so that nothing need be encoded.
    """

    id_kinds: frozenset[IdKind]
    metrics: frozenset[Metric]
    payload: PayloadLimits
    id_bytes: int | None = None
    id_pattern: str | None = None
    names: NameRule = NameRule()
    vector_kinds: frozenset[VectorKind] = frozenset({VectorKind.DENSE})
    dtypes: frozenset[DType] = frozenset({DType.FLOAT32})
    dimensions: int | None = None
    unnamed_vector: bool = True
    named_vectors: bool = False
    dense_fields: int | None = 1
    field_names: NameRule = NameRule(r"(?s).*", 0, 65_535)
    shared_field_names: bool = True
    sparse_metrics: frozenset[Metric] = frozenset(Metric)
    vectors_required: bool = True
    vector_free: bool = False
    namespaces: bool = False
    documents: DocumentRoom = DocumentRoom.PAYLOAD
    normalises: frozenset[Metric] = frozenset()
    rounds: frozenset[Metric] = frozenset()
    nonfinite_vectors: bool = False
    negative_zero_vectors: bool = True
    subnormal_vectors: bool = True
    vector_magnitude: float | None = None
    vector_magnitude_least: float | None = None
    magnitude_metrics: frozenset[Metric] | None = None
    unit_slack: float = 0.0
    unit_dimensions: int = 0
    zero_vectors: bool = True
    empty_multi: bool = True
    sparse_duplicates: bool = True
    record_bytes: int | None = None
    payload_bytes: int | None = None
    keeps_origin: bool = False
    adopts_empty: bool = True
    batch_rows: int = 1000
    flush_rows: int = 0
    records_least: int = 0
    durable: bool = True
    metadata: tuple[str, ...] | None = None
    index_settings: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()
    verbatim: bool = False


@dataclass(frozen=True, slots=True)
class TransferAccount:
    """What a transfer read, wrote and counted. `rows_landed` is the sink's own count at the end.

    `source_changed` is known only where the source was read a second time: that is done after a resumed transfer.
    """

    rows_read: int = 0
    rows_written: int = 0
    rows_landed: int | None = None
    source_count_before: int | None = None
    source_count_after: int | None = None
    source_changed: bool | None = None
    started_at: str = ""
    ended_at: str = ""
    source: StoreIdentity | None = None
    digests: Mapping[str, Any] = field(default_factory=dict, hash=False)


def difference_of(there: CollectionSpec, wanted: CollectionSpec) -> str | None:
    """In which respect a collection is not what `create` is asked for, in words; None if in none.

    Names, index settings and models may differ: a store is not asked to know the model.
    """
    for name in ("id_kind", "has_namespaces", "has_documents"):
        if getattr(there, name) != getattr(wanted, name):
            return f"its {name} is {getattr(there, name)}, not {getattr(wanted, name)}"
    have = {vector.column: vector for vector in there.vectors}
    want = {vector.column: vector for vector in wanted.vectors}
    for column in sorted(have.keys() ^ want.keys()):
        return f"{'has' if column in have else 'lacks'} the vector field '{column}'"
    for column, vector in want.items():
        for name in ("dtype", "metric", "dimensions"):
            if getattr(have[column], name) != getattr(vector, name):
                return f"'{column}' has {name} {getattr(have[column], name)}, not {getattr(vector, name)}"
    return None


class VectorSink(Protocol):
    """Something that records can be written to."""

    def limits(self) -> SinkLimits:
        """What it can hold; the same on every call."""
        ...

    def create(self, spec: CollectionSpec, origin: Origin) -> None:
        """Make the collection, or accept the one that is there if it has the same vector fields.

        One without records takes over `origin`, since what was told of others explains none of those that come now
        (whoever made it, where the limits say `adopts_empty`). `spec` stays within `limits()`. Raises
        `CollectionExists` for one with other fields, naming the difference.
        """
        ...

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Write records; each replaces the whole of an older one with its key. May buffer until `flush`.

        At most `limits().batch_rows` rows. An id that stands twice in the batch is the caller's error.
        """
        ...

    def delete(self, keys: Sequence[RecordKey]) -> None:
        """Remove these records; those that are not there are ignored."""
        ...

    def flush(self) -> None:
        """Return when all written before survives process and machine; checkpoints advance only here."""
        ...

    def finish(self, account: TransferAccount) -> Sequence[Finding] | None:
        """Called once after the last flush of a complete transfer: build indexes, write what closes the collection.

        What the user must know of how that went stands in the transfer's result, such as what is still to be done by
        somebody: nothing, or None, where all is as it should be. What is wrong is raised.
        """
        ...

    def close(self) -> None:
        """Let go of everything; what was not flushed may be lost. Calling it again does nothing."""
        ...
