"""Parquet as three vendors write it: what tells each from plain columns, and how its columns are read.

* Qdrant (`qdrant-to-parquet`): the key `qdrant.vectors` in the file's metadata says what each column is.
* Pinecone (export of a backup, and import): a folder for each namespace, `__default__` being in none; the columns `id`,
  `values`, `sparse_values` and `metadata`, JSON text.
* Weaviate (collection export, 1.37): the columns of `WEAVIATE`, and the collection's and the tenant's names in the
  file's metadata. Vectors are little-endian float32 bytes, named ones JSON text in the digits of float32.

A file is taken for one of these where its metadata or the whole set of its columns says so, or `?layout=` does;
`?layout=plain` reads its columns as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from exitramp.errors import CollectionMissing, DataInvalid, UsageError
from exitramp.ports.tables import Roles
from exitramp.records import DType, Finding, Metric
from exitramp.urls import Address
from exitramp_adapters.stores.files.cells import Field, Part, Table, Where
from exitramp_adapters.stores.files.chunks import Chunk
from exitramp_adapters.stores.files.options import dtype_said, metric_said, nulls_said, yes_or_no

LAYOUTS: Final = ("plain", "pinecone", "qdrant", "weaviate")
WEAVIATE: Final = frozenset(
    {"id", "creation_time", "update_time", "vector", "named_vectors", "multi_vectors", "properties"}
)
PINECONE: Final = frozenset({"id", "values", "sparse_values", "metadata"})
_TIMES: Final = {"creation_time": "_creationTimeUnix", "update_time": "_lastUpdateTimeUnix"}
_QDRANT_METRICS: Final = {
    "Cosine": Metric.COSINE,
    "Dot": Metric.DOT,
    "Euclid": Metric.EUCLIDEAN,
    "Manhattan": Metric.MANHATTAN,
}


def recognised(schema: pa.Schema) -> str:
    """Which layout a Parquet file has by what it says itself."""
    names = set(schema.names)
    if b"qdrant.vectors" in (schema.metadata or {}):
        return "qdrant"
    if names == WEAVIATE:
        return "weaviate"
    return "pinecone" if {"id"} < names <= PINECONE and names & {"values", "sparse_values"} else "plain"


def laid_out(layout: str, address: Address, parts: Sequence[Part], root: Path) -> Table:
    """The table that files of this layout are. Raises `UsageError` naming a column of it that they lack."""
    make = {"qdrant": _qdrant, "pinecone": _pinecone, "weaviate": _weaviate}[layout]
    for option in ("id", "namespace", "document", "payload", "types"):
        if address.option(option) is not None:
            hint = "?layout=plain reads the columns as they are"
            raise UsageError(f"{address}: the layout '{layout}' says itself which column is the {option}", hint=hint)
    return make(address, parts, root)


def about_layout(layout: str, *, said: bool) -> Finding:
    """What to know of files that are read in a layout, which the address says (`said`) or the files themselves do."""
    text = f"read in the layout of {layout.capitalize()}"
    if not said:
        text += ", as the files' own columns say; ?layout=plain reads them plain"
    if layout in {"pinecone", "weaviate"}:
        text += ". What is known of it is the published description: no real export was ever tried"
    return Finding("source.layout", text)


def _qdrant(address: Address, parts: Sequence[Part], root: Path) -> Table:
    schema = _schema(parts[0])
    told = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    _require(address, parts, {"id", "payload"}, "qdrant")
    try:
        vectors: dict[str, dict[str, Any]] = json.loads(told["qdrant.vectors"])
        config = json.loads(told.get("qdrant.collection_config", "{}"))
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"{parts[0].file.path}: its metadata does not say what its vectors are",
            hint="?layout=plain&id=id&vectors=…",
        ) from error
    fields = []
    for column, about in vectors.items():
        if about["kind"] == "sparse":
            metric = Metric.DOT  # Qdrant compares sparse vectors by nothing else
        elif about["distance"] in _QDRANT_METRICS:
            metric = _QDRANT_METRICS[about["distance"]]
        else:
            raise DataInvalid(f"{parts[0].file.path}: the distance '{about['distance']}' of '{column}' is not known")
        fields.append(Field(column, str(about["name"]), metric, DType.FLOAT32))
    name = address.collection or told.get("qdrant.collection") or root.stem
    return Table(name, parts, Roles("id", payload="payload"), fields, index=config, texts_as_ids=True)


def _pinecone(address: Address, parts: Sequence[Part], root: Path) -> Table:
    _require(address, parts, {"id"}, "pinecone")
    known = {name for part in parts for name in _schema(part).names}
    extra = sorted(known - PINECONE)
    if root.is_dir():
        parts = [replace(part, namespace=_namespace(part.file.path.relative_to(root))) for part in parts]
    fields = []
    for column, name in (("values", ""), ("sparse_values", "sparse")):
        if column in known:
            said = dtype_said(address, name, column)
            fields.append(Field(column, name, metric_said(address, name, column), said, said is not None))
    findings = (
        [Finding("source.unread", f"columns that Pinecone's layout has not: {', '.join(extra)}")] if extra else []
    )
    return Table(
        address.collection or root.stem,
        parts,
        Roles("id", payload="metadata" if "metadata" in known else None),
        fields,
        namespaced=any(part.namespace is not None for part in parts),
        nulls_absent=nulls_said(address, absent=True),
        findings=findings,
    )


def _namespace(path: Path) -> str | None:
    """The folder's name; a file beside the folders is in no namespace."""
    return None if len(path.parts) == 1 or path.parts[0] == "__default__" else path.parts[0]


def _weaviate(address: Address, parts: Sequence[Part], root: Path) -> Table:
    parts = _of_collection(address, parts)
    _require(address, parts, {"id", "vector", "properties"}, "weaviate")
    named, multi = (_names(parts, column) for column in ("named_vectors", "multi_vectors"))
    fields = []
    if _holds_any(parts, "vector"):
        fields.append(Field("vector", "", metric_said(address, "", "vector"), DType.FLOAT32))
    for column, names in (("named_vectors", named), ("multi_vectors", multi)):
        for name in names:
            metric = metric_said(address, name, name)
            fields.append(Field(f"{column}/{name}", name, metric, DType.FLOAT32, rounded=True))
    times = _TIMES if yes_or_no(address, "times", default=True) else {}
    tenants = [_told(part, b"tenant") for part in parts]
    parts = [replace(part, namespace=tenant) for part, tenant in zip(parts, tenants, strict=True)]
    return Table(
        address.collection or _told(parts[0], b"collection") or root.stem,
        parts,
        Roles("id", payload="properties", values=tuple(times.values())),
        fields,
        namespaced=any(tenant is not None for tenant in tenants),
        prepare=_weaviate_columns(fields, times),
        reads=("vector", "named_vectors", "multi_vectors"),
        texts_as_ids=True,
    )


def _of_collection(address: Address, parts: Sequence[Part]) -> Sequence[Part]:
    held = {_told(part, b"collection") for part in parts}
    if address.collection is not None and held != {None}:
        found = [part for part in parts if _told(part, b"collection") == address.collection]
        if not found:
            raise CollectionMissing(f"{address}: there are {', '.join(sorted(map(str, held)))}")
        return found
    if len(held) > 1:
        raise UsageError(
            f"{address} holds several collections: {', '.join(sorted(map(str, held)))}", hint="name one of them: …#NAME"
        )
    return parts


def _weaviate_columns(fields: Sequence[Field], times: Mapping[str, str]) -> Callable[[Chunk, Where], Chunk]:
    def prepare(chunk: Chunk, where: Where) -> Chunk:
        columns = {times.get(name, name): column for name, column in chunk.columns.items()}
        for source in ("named_vectors", "multi_vectors"):
            wanted = [each for each in fields if each.column.startswith(f"{source}/")]
            if wanted and source in columns:
                rows = [_vectors_in(text, partial(where, row)) for row, text in enumerate(_text(columns[source]))]
                kind = pa.list_(pa.float64()) if source == "named_vectors" else pa.list_(pa.list_(pa.float64()))
                for each in wanted:
                    try:
                        columns[each.column] = pa.array([row.get(each.name) for row in rows], kind)
                    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                        text = f"{where(0)} or after it: '{each.name}' in {source} is no vector"
                        raise DataInvalid(text) from error
        return replace(chunk, columns=columns)

    return prepare


def _vectors_in(text: str | None, where: Callable[[], str]) -> dict[str, Any]:
    try:
        found = {} if text is None else json.loads(text)
    except ValueError as error:
        raise DataInvalid(f"{where()}: its vectors are no JSON") from error
    if not isinstance(found, dict):
        raise DataInvalid(f"{where()}: its vectors are no JSON object")
    return found


def _text(column: pa.Array) -> list[str | None]:
    found: list[str | None] = column.cast(pa.string()).to_pylist()
    return found


def _names(parts: Iterable[Part], column: str) -> list[str]:
    """The names of all vectors in a column of JSON objects, which is read for it."""
    found: dict[str, None] = {}
    for part in parts:
        for chunk in part.file.chunks((), only=[column]):
            for row, text in enumerate(_text(chunk.columns[column])):
                found.update(dict.fromkeys(_vectors_in(text, partial(_row_name, part, row))))
    return sorted(found)


def _row_name(part: Part, row: int) -> str:
    return f"{part.file.path.name} row {row + 1}"


def _holds_any(parts: Iterable[Part], column: str) -> bool:
    return any(
        chunk.columns[column].null_count < chunk.rows for part in parts for chunk in part.file.chunks((), only=[column])
    )


def _told(part: Part, key: bytes) -> str | None:
    found = (_schema(part).metadata or {}).get(key)
    return None if found is None else found.decode("utf-8")


def _schema(part: Part) -> pa.Schema:
    if part.file.schema is None:
        raise UsageError(f"{part.file.path}: layouts are those of Parquet files")
    return part.file.schema


def _require(address: Address, parts: Sequence[Part], columns: set[str], layout: str) -> None:
    for part in parts:
        lacking = sorted(columns - set(_schema(part).names))
        if lacking:
            raise UsageError(
                f"{part.file.path} has no column '{lacking[0]}', which the layout '{layout}' has",
                hint="?layout=plain reads the columns as they are",
            )
