"""`vdf:./vdf_20240122_135409_c5fa3#articles`: dumps in the format of vdf-io, read and written.

A dump is a folder with `VDF_META.json` and Parquet files for each index and namespace. One that vdf-io made is read as
it is, with what its writers do to data made good or told of:

* the vectors of most stores are doubles there: float32 again, where every number is the same;
* a null is what a data frame makes of a key that a record does not have: it is left out (`?nulls=keep` keeps it);
* `__index_level_0__` is the number of a data frame's row, and is not read;
* the metric is `Cosine` also where vdf-io did not know it: a finding says so, and `?metric=` says another;
* fewer records than the store had are a finding that leaves a comparison inconclusive.

What exitramp writes, vdf-io reads; beside it every record stands exactly (`vdf_form`). Writing goes by way of a
folder in the dump until the load is finished; writing 100,000 x 384 anew took 1.3 s then, half of it for the columns of
payloads.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from exitramp.durable import READ, storage_errors, write_atomically
from exitramp.errors import AddressError, CollectionExists, CollectionMissing, DataInvalid, IntegrityError
from exitramp.ports import TAGGED_TYPES, DocumentRoom, NameRule, PayloadLimits, SinkLimits, StoreAdapter
from exitramp.records import UNKNOWN, CollectionSpec, DType, EmbeddingModel, Finding, IdKind, Metric, Verdict
from exitramp.urls import Address, Network
from exitramp_adapters.stores.files.cells import Part
from exitramp_adapters.stores.files.formats import open_rows
from exitramp_adapters.stores.files.options import TABLE_OPTIONS
from exitramp_adapters.stores.files.plain import plain_table
from exitramp_adapters.stores.files.rows import TableSnapshot
from exitramp_adapters.stores.files.search import FilesSearch
from exitramp_adapters.stores.files.sink import ALL_TYPES, BATCH_ROWS, StagedStore
from exitramp_adapters.stores.files.store import Snapshot
from exitramp_adapters.stores.files.vdf_form import OwnParts, write_own

META: Final = "VDF_META.json"
VERSION: Final = "0.1.248"
"""The vdf-io whose reader was tried on what is written here."""
METRICS: Final = {
    "Cosine": Metric.COSINE,
    "Dot": Metric.DOT,
    "Euclid": Metric.EUCLIDEAN,
    "Manhattan": Metric.MANHATTAN,
}
_TYPED: Final = frozenset({"timestamp", "nonfinite", "int", "key"})
_NOT_PROVIDED: Final = "NOT_PROVIDED"


class VdfStore(StagedStore):
    """One index of one dump."""

    scheme = "vdf"

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        address.only_options(*TABLE_OPTIONS)
        self.folder: Path = address.path

    def search(self) -> FilesSearch:
        self.require_open()
        return FilesSearch(self)

    def limits(self) -> SinkLimits:
        return SinkLimits(
            id_kinds=frozenset(IdKind),
            metrics=frozenset(METRICS.values()),
            payload=PayloadLimits(
                types=ALL_TYPES,
                item_types=ALL_TYPES,
                mixed_lists=True,
                nested=True,
                empty_lists=True,
                empty_objects=True,
                integer_bits=8192,
                # Columns are of a type that Parquet has, or of JSON texts: moments and NaN are tagged in those alone.
                tagged_types=TAGGED_TYPES - _TYPED,
                tagged_items=_TYPED,
                text_types=frozenset({"object"}),
            ),
            names=NameRule(maximum=10_000),
            dtypes=frozenset({DType.FLOAT32, DType.FLOAT64}),
            named_vectors=True,
            dense_fields=None,
            vectors_required=False,
            namespaces=True,
            documents=DocumentRoom.NATIVE,
            nonfinite_vectors=True,
            keeps_origin=True,
            batch_rows=BATCH_ROWS,
        )

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._indexes(self._meta() or {})))

    def listed(self) -> tuple[str, ...]:
        return self.names()

    def staging_folder(self, name: str | None) -> Path:
        if name is None:
            name = self._name()
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return self.folder / f".exitramp-load-{digest}"

    def _name(self) -> str:
        """The index that is meant. Raises `CollectionMissing` where there is none, or several and none is named."""
        if self.address.collection is not None:
            return self.address.collection
        indexes = list(self._indexes(self._meta() or {}))
        for each in sorted(self.folder.glob(".exitramp-load-*/collection.json")):
            name = str(json.loads(each.read_bytes())["spec"]["name"])
            indexes += [] if name in indexes else [name]
        if not indexes:
            raise CollectionMissing(f"{self.folder} holds no index of VDF: there is no {META}")
        if len(indexes) > 1:
            raise AddressError(
                f"{self.address} holds several indexes: {', '.join(sorted(indexes))}", hint="name one of them: …#INDEX"
            )
        return str(indexes[0])

    def _meta(self) -> dict[str, Any] | None:
        path = self.folder / META
        with storage_errors(path, READ):
            try:
                found = json.loads(path.read_bytes())
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise DataInvalid(f"{path} is no JSON") from error
        if not isinstance(found, dict) or not isinstance(found.get("indexes"), dict):
            raise DataInvalid(f"{path} says nothing of indexes")
        return found

    @staticmethod
    def _indexes(meta: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Mapping[str, Any] = meta.get("indexes", {})
        return found

    def base_paths(self) -> list[Path]:
        paths = [self.folder / META]
        meta, name = self._effective_meta(), self._name()
        if meta is not None and name in self._indexes(meta) and name not in meta.get("exitramp", {}):
            paths += [path for about in self._indexes(meta)[name] for path in self._files(about)]
        return paths

    def _effective_meta(self) -> dict[str, Any] | None:
        staging = self.staging_of(None)
        path = staging.effective(self.folder / META)
        if path == self.folder / META:
            return self._meta()
        with storage_errors(path, READ):
            found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    def _files(self, about: Mapping[str, Any]) -> list[Path]:
        """The Parquet files of a namespace. Raises `IntegrityError` for a path that leaves the dump."""
        told = str(about.get("data_path", ""))
        path = self.folder / told
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise IntegrityError(f"{self.folder / META} names a path outside of the dump: '{told}'")
        if path.is_file():
            return [path]
        return sorted(each for each in path.rglob("*.parquet") if each.is_file())

    def has_base(self) -> bool:
        meta = self._effective_meta()
        return meta is not None and self._name() in self._indexes(meta)

    def missing(self) -> CollectionMissing:
        there = ", ".join(sorted(self._indexes(self._meta() or {}))) or "none"
        return CollectionMissing(f"{self.folder}: there is no index '{self._name()}'", hint=f"there are: {there}")

    def require_own(self) -> None:
        meta = self._effective_meta()
        name = self._name()
        if meta is not None and name in self._indexes(meta) and name not in meta.get("exitramp", {}):
            raise CollectionExists(
                f"{self.folder} holds an index '{name}' that exitramp did not write",
                hint="write to another folder, or another index: …#INDEX",
            )

    def open_base(self) -> Snapshot:
        meta, name = self._effective_meta(), self._name()
        if meta is None or name not in self._indexes(meta):
            raise self.missing()
        own = meta.get("exitramp", {}).get(name)
        return self._foreign(meta, name) if own is None else OwnParts(self.folder, own)

    def _foreign(self, meta: Mapping[str, Any], name: str) -> Snapshot:
        abouts = self._indexes(meta)[name]
        parts = [
            Part(open_rows(path), about.get("namespace") or None) for about in abouts for path in self._files(about)
        ]
        if not parts:
            raise DataInvalid(f"{self.folder}: the index '{name}' has no Parquet files")
        told = {"id": str(meta.get("id_column") or "id"), "nulls": "absent"}
        told["vectors"] = ",".join(dict.fromkeys(column for about in abouts for column in about["vector_columns"]))
        text = _text_column(meta, abouts, parts)
        if text is not None:
            told["document"] = text
        findings: list[Finding] = []
        if not self.address.option("metric"):
            told["metric"] = self._metric(meta, abouts, findings).value
        address = replace(self.address, options={**told, **self.address.options})
        table = plain_table(address, parts, name)
        models = [each for about in abouts if (each := about.get("model_name")) not in (None, "", _NOT_PROVIDED)]
        index = {"vdf": {"exported_from": meta.get("exported_from"), "indexes": _brief(abouts)}}
        table = replace(table, name=name, namespaced=any(part.namespace is not None for part in parts), index=index)
        held = TableSnapshot(table)
        if len(set(models)) == 1:
            model = EmbeddingModel(name=str(models[0]))
            held.spec = replace(held.spec, vectors=tuple(replace(each, model=model) for each in held.spec.vectors))
        held.findings = (*findings, *self._counted(abouts, held.rows), *held.findings)
        return held

    def _metric(self, meta: Mapping[str, Any], abouts: Sequence[Mapping[str, Any]], findings: list[Finding]) -> Metric:
        found = {about.get("metric") for about in abouts}
        unknown = sorted(str(each) for each in found if each not in METRICS)
        if unknown or len(found) > 1:
            what = f"the metric {unknown[0]}" if unknown else f"several metrics: {', '.join(sorted(map(str, found)))}"
            raise DataInvalid(
                f"{self.folder / META} names {what}",
                hint=f"say which one is meant: ?metric=… (known {', '.join(METRICS)})",
            )
        [told] = found
        if told == "Cosine":
            text = (
                f"{META} says that the metric is Cosine, which vdf-io also writes where it did not know it; "
                f"if the {meta.get('exported_from', 'store')} collection had another one, say ?metric=…"
            )
            findings.append(Finding("source.metric", text))
        return METRICS[str(told)]

    def _counted(self, abouts: Sequence[Mapping[str, Any]], rows: int) -> list[Finding]:
        """What the dump says of how many records there were, where it is not what is there."""
        found = []
        for key, what in (("exported_vector_count", "were written"), ("total_vector_count", "the store had")):
            counts = [count for about in abouts if isinstance(count := about.get(key), int) and count >= 0]
            if len(counts) == len(abouts) and sum(counts) != rows:
                text = f"{META} says that {sum(counts)} records {what}, and {rows} are in the files"
                found.append(Finding("source.incomplete", text, Verdict.INCONCLUSIVE, count=abs(sum(counts) - rows)))
        return found[-1:]

    def remove_base(self) -> None:
        meta, name, path = self._meta(), self._name(), self.folder / META
        assert meta is not None
        own = meta["exitramp"].pop(name)
        del meta["indexes"][name]
        meta["file_structure"] = _listed_files(self.folder, meta)
        if meta["indexes"]:
            write_atomically(path, json.dumps(meta, ensure_ascii=False, indent=2).encode())
        beside = self.folder / "exitramp"
        with storage_errors(self.folder):
            if not meta["indexes"]:
                path.unlink()
            for each in (self.folder / own["home"], beside / own["home"]):
                if each.exists():
                    shutil.rmtree(each)
            if beside.is_dir() and not any(beside.iterdir()):
                beside.rmdir()

    def write_base(self, held: Snapshot) -> tuple[Mapping[Path, Path], Sequence[Path]]:
        name = held.spec.name
        meta = self._meta() or {
            "version": VERSION,
            "file_structure": [],
            "author": "exitramp",
            "exported_from": "exitramp",
            "indexes": {},
            "exported_at": "",
            "id_column": "id",
        }
        before = meta.get("exitramp", {}).get(name)
        parts, told = write_own(self.folder, name, held)
        meta["exported_at"] = datetime.now(UTC).isoformat()
        meta["indexes"][name] = [_about(held.spec, told["columns"], part) for part in parts] or [
            _about(held.spec, told["columns"], {"namespace": None, "path": told["home"], "rows": 0})
        ]
        for part in parts:
            part.pop("schema")
        meta.setdefault("exitramp", {})[name] = told
        meta["file_structure"] = _listed_files(self.folder, meta)
        new = self.folder / f"{META}.new"
        with storage_errors(new):
            new.write_text(json.dumps(meta, ensure_ascii=False, indent=2), encoding="utf-8")
            with new.open("rb+") as file:
                import os

                os.fsync(file.fileno())
        gone = [] if before is None else [self.folder / before["home"], self.folder / "exitramp" / before["home"]]
        return {new: self.folder / META}, [path for path in gone if path.exists()]


def _listed_files(folder: Path, meta: Mapping[str, Any]) -> list[str]:
    files = [part["data"] for own in meta["exitramp"].values() for part in own["parts"]]
    return [f"{folder.name}/{file}" for file in (*files, META)]


def _text_column(meta: Mapping[str, Any], abouts: Sequence[Mapping[str, Any]], parts: Sequence[Part]) -> str | None:
    """The column of documents: as the dump says, or where vdf-io's exporter of Chroma puts them."""
    told = {
        model.get("text_column")
        for about in abouts
        for model in (about.get("model_map") or {}).values()
        if model.get("text_column") not in (None, "", _NOT_PROVIDED)
    }
    if meta.get("exported_from") == "chroma":
        told.add("document")
    if len(told) != 1:
        return None
    [column] = told
    there = any(part.file.schema is not None and column in part.file.schema.names for part in parts)
    return str(column) if there else None


def _about(spec: CollectionSpec, columns: Mapping[str, str], part: Mapping[str, Any]) -> dict[str, Any]:
    """What vdf-io reads of a namespace. Fields of several metrics have none together: vdf-io knows one."""
    metrics = {field.metric for field in spec.vectors}
    names = {metric: name for name, metric in METRICS.items()}
    models = {_model(field.model) for field in spec.vectors}
    return {
        "namespace": part["namespace"] or "",
        "index_name": spec.name,
        "total_vector_count": part["rows"],
        "exported_vector_count": part["rows"],
        "dimensions": spec.vectors[0].dimensions,
        "model_name": models.pop() if len(models) == 1 else _NOT_PROVIDED,
        "model_map": {
            columns[field.column]: {
                "model_name": _model(field.model),
                "text_column": "document" if spec.has_documents else _NOT_PROVIDED,
                "dimensions": field.dimensions,
                "vector_column": columns[field.column],
                "metric": names[field.metric],
            }
            for field in spec.vectors
        },
        "vector_columns": [columns[field.column] for field in spec.vectors],
        "data_path": part["path"],
        "metric": names[metrics.pop()] if len(metrics) == 1 else None,
        "index_config": None,
        "schema_dict_str": part.get("schema"),
    }


def _model(model: EmbeddingModel) -> str:
    if model.name == UNKNOWN:
        return _NOT_PROVIDED
    return model.name if model.provider == UNKNOWN else f"{model.provider}/{model.name}"


def _brief(abouts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the dump tells of the index, without the text of its schema."""
    return [{key: value for key, value in about.items() if key != "schema_dict_str"} for about in abouts]


def _open(address: Address, network: Network) -> VdfStore:
    return VdfStore(address)


ADAPTER = StoreAdapter(
    scheme="vdf",
    summary="dumps in the format of vdf-io",
    address_form="vdf:FOLDER#INDEX",
    open=_open,
    metric=True,
)
