"""A map of ids that somebody else keeps: which record of the source is which, by the ids that are to stand for them.

A file with the columns `from` and `to`, as CSV, JSON lines or Parquet. It is held in memory: about 150 bytes an id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from exitramp.codec.ids import is_int64, is_uint64, is_uuid
from exitramp.durable import READ, storage_errors
from exitramp.errors import ConfigError, DataInvalid
from exitramp.filters import Field
from exitramp.records import CollectionSpec, IdKind, RecordKey

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class IdMap:
    """`sources[n]` becomes `targets[n]`; none stands twice on either side, so that the way back is known too."""

    name: str
    sources: pa.Array
    targets: pa.Array
    kind: IdKind
    _back: dict[str, str] = field(default_factory=dict, hash=False, compare=False)

    def digest(self) -> str:
        """What tells this map from others."""
        found = hashlib.sha256()
        for column in (self.sources, self.targets):
            for text in column.to_pylist():
                found.update(len(text.encode()).to_bytes(8, "little") + text.encode())
        return found.hexdigest()

    def apply(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch under its new ids. Raises `DataInvalid` naming ids that the map does not have."""
        ids = batch.column("id")
        at = pc.index_in(ids, value_set=self.sources)
        if at.null_count:
            missing = ids.filter(at.is_null())
            shown = ", ".join(repr(each) for each in missing[:_SHOWN].to_pylist())
            more = f" and {len(missing) - _SHOWN} more of a page" if len(missing) > _SHOWN else ""
            raise DataInvalid(
                f"{self.name} has no id to stand for {shown}{more}", hint="give every record of the source a line in it"
            )
        spot = batch.schema.get_field_index("id")
        return batch.set_column(spot, batch.schema.field(spot), self.targets.take(at))

    def spec(self, spec: CollectionSpec) -> CollectionSpec:
        return replace(spec, id_kind=self.kind)

    def source_field(self, field: Field) -> Field:
        return field

    def source_vector(self, name: str, spec: CollectionSpec) -> str:
        return name

    def target_keys(self, keys: Sequence[RecordKey]) -> tuple[RecordKey, ...]:
        """The keys under which records of the source go from here on. Raises `DataInvalid` as `apply` does."""
        batch = pa.record_batch({"id": pa.array([key.id for key in keys], pa.string())})
        found = self.apply(batch).column("id").to_pylist()
        return tuple(RecordKey(id_, key.namespace) for id_, key in zip(found, keys, strict=True))

    def source_key(self, key: RecordKey) -> RecordKey | None:
        """The key that a record has in the source; None for one that no record of it can have."""
        if not self._back:
            self._back.update(zip(self.targets.to_pylist(), self.sources.to_pylist(), strict=True))
        found = self._back.get(key.id)
        return None if found is None else RecordKey(found, key.namespace)


def read_id_map(path: Path, *, backwards: bool = False) -> IdMap:
    """The map in `path`, or with `backwards` the way back. Raises `ConfigError` naming the file and the row."""
    table = _table(path)
    for name in ("from", "to"):
        if name not in table.column_names:
            raise ConfigError(
                f"it has no column '{name}'", file=str(path), hint=f"its columns: {', '.join(table.column_names)}"
            )
    columns = {name: _texts(table.column(name), name, path) for name in ("from", "to")}
    if not len(columns["from"]):
        raise ConfigError("it holds no id", file=str(path))
    for name, column in columns.items():
        _require_once(column, name, path)
    sources, targets = (columns["to"], columns["from"]) if backwards else (columns["from"], columns["to"])
    return IdMap(str(path), sources, targets, _kind_of(targets))


def _table(path: Path) -> pa.Table:
    from pyarrow import csv, json, parquet

    with storage_errors(path, READ):
        path.open("rb").close()
    try:
        match path.suffix.lower():
            case ".parquet":
                return parquet.read_table(path)
            case ".jsonl" | ".ndjson":
                return json.read_json(path)
            case ".csv":
                # Everything as text: 007 and 7 are two ids.
                names = csv.open_csv(path).schema.names
                options = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
                return csv.read_csv(path, convert_options=options)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ConfigError(f"it cannot be read ({type(error).__name__})", file=str(path)) from error
    raise ConfigError("it is no map of ids", file=str(path), hint="give a .csv, .jsonl or .parquet file")


def _texts(column: pa.ChunkedArray, name: str, path: Path) -> pa.Array:
    kind: Any = column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        raise ConfigError(f"the column '{name}' holds {kind}, and ids are text or integers", file=str(path))
    texts = column.cast(pa.string()).combine_chunks()
    if texts.null_count:
        raise ConfigError(f"row {texts.is_null().index(True).as_py() + 1} has no '{name}'", file=str(path))
    return texts


def _require_once(column: pa.Array, name: str, path: Path) -> None:
    counts = column.value_counts()
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        shown = ", ".join(repr(each) for each in twice[:_SHOWN].to_pylist())
        raise ConfigError(f"the column '{name}' holds {shown} more than once", file=str(path))


def _kind_of(ids: pa.Array) -> IdKind:
    texts = ids.to_pylist()
    for kind, fits in ((IdKind.UINT64, is_uint64), (IdKind.INT64, is_int64), (IdKind.UUID, is_uuid)):
        if all(map(fits, texts)):
            return kind
    return IdKind.STRING
