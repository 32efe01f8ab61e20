"""How one collection is laid out in one sink: which field becomes which, and what goes into the marker instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from exitramp.codec.ids import derived_name, fits_rule, name_hash, native_name
from exitramp.errors import DataInvalid
from exitramp.ports import DocumentRoom, Origin, SinkLimits
from exitramp.ports.collection_metadata import with_metadata
from exitramp.records import CollectionSpec, DType, EmbeddingModel, IdKind, Metric, VectorField, VectorKind

_WIDER: Mapping[DType, tuple[DType, ...]] = {
    DType.FLOAT16: (DType.FLOAT32, DType.FLOAT64),
    DType.INT8: (DType.FLOAT32, DType.FLOAT64),
    DType.FLOAT32: (DType.FLOAT64,),
    # Exact only where every value was measured to be a float32 already; the plan calls it lossy otherwise.
    DType.FLOAT64: (DType.FLOAT32,),
    DType.BINARY: (),
}


@dataclass(frozen=True, slots=True)
class FieldLayout:
    """One vector field: `native` is how the sink holds it, None if it is kept in the marker (`why` says why)."""

    original: VectorField
    native: VectorField | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole collection; `native` is what the sink is asked to create."""

    original: CollectionSpec
    native: CollectionSpec
    fields: tuple[FieldLayout, ...]


def layout_for(
    spec: CollectionSpec, limits: SinkLimits, *, name: str | None = None, metrics: Mapping[str, Metric] | None = None
) -> Layout:
    """`lay_out`, or `spec` itself for a sink that takes every record as it is."""
    if limits.verbatim and not metrics:
        return Layout(spec, spec, tuple(FieldLayout(field, field) for field in spec.vectors))
    return lay_out(spec, limits, name=name, metrics=metrics)


def lay_out(
    spec: CollectionSpec, limits: SinkLimits, *, name: str | None = None, metrics: Mapping[str, Metric] | None = None
) -> Layout:
    """How a sink with `limits` takes a collection like `spec`.

    `name` is what somebody wants the collection to be called in the sink (default: its own name, mapped where the sink
    does not take it); `metrics` replaces the metric of named fields, which is a loss that the plan asks consent for.
    Raises `DataInvalid` where no layout exists, saying what could be done.
    """
    _require_known(metrics or {}, spec)
    fields: list[FieldLayout] = []
    dense_made = 0
    names = _FieldNames(spec, limits)
    for field in spec.vectors:
        metric = (metrics or {}).get(field.name, field.metric)
        why = _why_not(field, metric, limits, dense_made)
        made_name = "" if why else names.take(field)
        if made_name is None:
            why = "the store has no second name for it"
        held_as = native_dtype(field.dtype, limits)
        if why or held_as is None or made_name is None:
            fields.append(FieldLayout(field, None, why))
            continue
        dense_made += field.kind is VectorKind.DENSE
        fields.append(FieldLayout(field, replace(field, name=made_name, metric=metric, dtype=held_as)))
    native = tuple(layout.native for layout in fields if layout.native is not None)
    if not (dense_made or (native and not limits.vectors_required) or limits.vector_free):
        raise _no_field(spec, fields, limits)
    return Layout(
        spec,
        CollectionSpec(
            name=_collection_name(spec.name, name, limits),
            id_kind=_native_id_kind(spec.id_kind, limits),
            vectors=native,
            has_namespaces=spec.has_namespaces and limits.namespaces,
            has_documents=spec.has_documents and limits.documents is DocumentRoom.NATIVE,
            index=spec.index,
        ),
        tuple(fields),
    )


def _others(native: CollectionSpec, origin: Origin) -> Mapping[str, Any]:
    """The settings of the first store, by kind, of which the store at hand tells nothing: behind its own, in which
    whoever looks for a graph looks first."""
    first = with_metadata(origin.spec, {}).index
    return {kind: told for kind, told in first.items() if kind not in native.index}


def restored_spec(native: CollectionSpec, origin: Origin | None) -> Layout:
    """The layout that explains what stands in a store: the way back from `native` by what the store kept of `origin`.

    The metric is always the store's own, since it is what the store answers by.
    """
    if origin is None:
        return Layout(native, native, tuple(FieldLayout(field, field) for field in native.vectors))
    left = {(field.kind, field.name): field for field in native.vectors}  # a store may give two kinds one name
    fields: list[FieldLayout] = []
    for field in origin.spec.vectors:
        known = field.column in origin.fields
        name = origin.fields[field.column] if known else _find_native(field, origin.spec, left)
        found = left.pop((field.kind, name), None) if name is not None else None
        if found is None:
            fields.append(FieldLayout(field, None, "kept in the marker"))
        else:
            fields.append(FieldLayout(replace(field, metric=found.metric, dimensions=found.dimensions), found))
    fields += [FieldLayout(field, field) for field in left.values()]  # a field that the application added since
    name = origin.spec.name if native.name.endswith(name_hash(origin.spec.name)) else native.name
    original = CollectionSpec(
        name=name,
        id_kind=origin.spec.id_kind,
        vectors=tuple(layout.original for layout in fields),
        has_namespaces=origin.spec.has_namespaces or native.has_namespaces,
        has_documents=origin.spec.has_documents or native.has_documents,
        # The store's own settings before those of the first store, which a store of that kind takes up again, however
        # many have been between that have no notion of them. What a user wrote down there is asked of the origin.
        index={**native.index, **_others(native, origin)},
    )
    return Layout(original, native, tuple(fields))


def same_model(a: EmbeddingModel, b: EmbeddingModel) -> bool:
    """Whether two fields' vectors may be compared: nothing that both know differs."""
    return all(
        getattr(a, name) == getattr(b, name) or "unknown" in (getattr(a, name), getattr(b, name))
        for name in EmbeddingModel.__slots__
    )


def _why_not(field: VectorField, metric: Metric, limits: SinkLimits, dense_made: int) -> str:
    if field.kind not in limits.vector_kinds:
        return f"the store has no {field.kind.value} vectors"
    if metric not in (limits.sparse_metrics if field.kind is VectorKind.SPARSE else limits.metrics):
        of = "sparse vectors under" if field.kind is VectorKind.SPARSE else "metric"
        return f"the store has no {of} {metric.value}"
    if limits.dimensions is not None and (field.dimensions or 0) > limits.dimensions:
        return f"the store takes {limits.dimensions} dimensions at most"
    if native_dtype(field.dtype, limits) is None:
        return f"the store has no type that holds {field.dtype.value}"
    if field.kind is not VectorKind.DENSE:
        return "" if limits.named_vectors or not field.name else "the store has no named vectors"
    room = limits.dense_fields if limits.named_vectors else 1
    if room is not None and dense_made >= room:
        return f"the store has room for {room} dense vector field{'s' if room > 1 else ''}"
    return ""


def native_dtype(dtype: DType, limits: SinkLimits) -> DType | None:
    """The type in which a sink holds numbers of `dtype`: the same, or the first wider one it has; None if neither."""
    return next((held for held in (dtype, *_WIDER[dtype]) if held in limits.dtypes), None)


class _FieldNames:
    """Names of vector fields in a sink, each given once."""

    def __init__(self, spec: CollectionSpec, limits: SinkLimits) -> None:
        self._spec, self._limits = spec, limits
        self._several = len([field for field in spec.vectors if field.kind is VectorKind.DENSE]) > 1
        self._given: set[tuple[VectorKind | None, str]] = set()

    def take(self, field: VectorField) -> str | None:
        """What the field is called in the sink; None where it has no name left for it."""
        limits = self._limits
        name = self._wanted(field)
        kind = field.kind if limits.shared_field_names else None
        if (kind, name) in self._given or not fits_rule(name, limits.field_names):
            if not limits.named_vectors:
                return None
            name = derived_name(field.name, field.column, limits.field_names)
        self._given.add((kind, name))
        return name

    def _wanted(self, field: VectorField) -> str:
        if field.kind is not VectorKind.DENSE:
            return field.name
        if not self._limits.named_vectors:
            return ""
        if field.name == "" and (self._several or not self._limits.unnamed_vector):
            return _stand_in(self._spec)
        return field.name


def _require_known(metrics: Mapping[str, Metric], spec: CollectionSpec) -> None:
    names = {field.name for field in spec.vectors}
    for name in metrics:
        if name not in names:
            listed = ", ".join(repr(each) for each in sorted(names)) or "none"
            raise DataInvalid(f"?metric= names the vector field {name!r}, which is not there", hint=f"it has: {listed}")


def _no_field(spec: CollectionSpec, fields: Sequence[FieldLayout], limits: SinkLimits) -> DataInvalid:
    needs = "a dense vector for every record" if limits.vectors_required else "a vector field"
    if not fields:
        return DataInvalid(
            f"the collection {spec.name!r} has no vector field, and this store needs {needs}",
            hint="dump it instead, or choose a store that keeps records without vectors; nothing was written",
        )
    reasons = "; ".join(f"{layout.original.column}: {layout.why or 'it is not dense'}" for layout in fields)
    hint = "choose another store or dump it; nothing was written"
    if any("metric" in layout.why for layout in fields):
        hint = "give it a metric that the store knows with ?metric= (the plan then asks consent), or " + hint
    return DataInvalid(f"this store needs {needs} and can take none of these fields: {reasons}", hint=hint)


def _collection_name(name: str, wanted: str | None, limits: SinkLimits) -> str:
    if wanted is None:
        return native_name(name, limits.names)
    if not fits_rule(wanted, limits.names):
        lengths = f"{limits.names.minimum} to {limits.names.maximum} characters"
        raise DataInvalid(
            f"the store takes no collection named {wanted!r}",
            hint=f"write another name behind the # ({lengths}, matching {limits.names.pattern}); nothing was written",
        )
    return wanted


def _stand_in(spec: CollectionSpec) -> str:
    """A name for the unnamed field where a store only has names; none that the collection already uses."""
    taken = {field.name for field in spec.vectors}
    name = "vector"
    while name in taken:
        name += "_"
    return name


def _find_native(field: VectorField, spec: CollectionSpec, native: Mapping[tuple[VectorKind, str], VectorField]) -> str:
    same_kind = {name for kind, name in native if kind is field.kind}
    if field.name in same_kind:
        return field.name
    if field.kind is not VectorKind.DENSE:
        return "\0none"
    if field.name == "" and _stand_in(spec) in same_kind:
        return _stand_in(spec)
    # A store without names holds the first dense field that it could take, under no name; dimensions tell which.
    if "" in same_kind and native[VectorKind.DENSE, ""].dimensions == field.dimensions:
        return ""
    return "\0none"


def _native_id_kind(kind: IdKind, limits: SinkLimits) -> IdKind:
    if kind in limits.id_kinds:
        return kind
    for wanted in (IdKind.STRING, IdKind.UUID, IdKind.UINT64, IdKind.INT64):
        if wanted in limits.id_kinds:
            return wanted
    raise DataInvalid("the store declares no id kind at all")
