"""How one collection is laid out in one sink: which field becomes which, and what goes into the marker instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from exitramp.codec.ids import name_hash, native_name
from exitramp.errors import DataInvalid
from exitramp.ports import DocumentRoom, Origin, SinkLimits
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


def lay_out(
    spec: CollectionSpec, limits: SinkLimits, *, name: str | None = None, metrics: Mapping[str, Metric] | None = None
) -> Layout:
    """How a sink with `limits` takes a collection like `spec`.

    `name` is the collection's name in the sink (default: its own, mapped where the sink does not take it);
    `metrics` replaces the metric of named fields, which is a loss that the plan asks consent for. Raises
    `DataInvalid` where no layout exists, saying what could be done.
    """
    fields: list[FieldLayout] = []
    dense_made = 0
    several = len([field for field in spec.vectors if field.kind is VectorKind.DENSE]) > 1
    for field in spec.vectors:
        metric = (metrics or {}).get(field.name, field.metric)
        why = _why_not(field, metric, limits, dense_made)
        if why:
            fields.append(FieldLayout(field, None, why))
            continue
        dense_made += field.kind is VectorKind.DENSE
        held_as = native_dtype(field.dtype, limits) if field.kind is VectorKind.DENSE else field.dtype
        assert held_as is not None  # or `_why_not` had said so
        made = replace(field, name=_name(field, spec, limits, several), metric=metric, dtype=held_as)
        fields.append(FieldLayout(field, made))
    if not dense_made and not limits.vector_free:
        reasons = "; ".join(f"{layout.original.column}: {layout.why}" for layout in fields)
        raise DataInvalid(
            f"this store needs a dense vector for every record and can take none of these fields: {reasons}",
            hint="choose another store, or give it a metric that it knows with ?metric=",
        )
    native = CollectionSpec(
        name=native_name(name or spec.name, limits.names),
        id_kind=_native_id_kind(spec.id_kind, limits),
        vectors=tuple(layout.native for layout in fields if layout.native is not None),
        has_namespaces=spec.has_namespaces and limits.namespaces,
        has_documents=spec.has_documents and limits.documents is DocumentRoom.NATIVE,
        index=spec.index,
    )
    return Layout(spec, native, tuple(fields))


def restored_spec(native: CollectionSpec, origin: Origin | None) -> Layout:
    """The layout that explains what stands in a store: the way back from `native` by what the store kept of `origin`.

    The metric is always the store's own, since it is what the store answers by.
    """
    if origin is None:
        return Layout(native, native, tuple(FieldLayout(field, field) for field in native.vectors))
    left = {field.name: field for field in native.vectors}
    fields: list[FieldLayout] = []
    for field in origin.spec.vectors:
        name = origin.fields[field.column] if field.column in origin.fields else _find_native(field, origin.spec, left)
        found = left.pop(name, None) if name is not None else None
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
        index=native.index,
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
    if metric not in limits.metrics and field.kind is not VectorKind.SPARSE:
        return f"the store has no metric {metric.value}"
    if limits.dimensions is not None and (field.dimensions or 0) > limits.dimensions:
        return f"the store takes {limits.dimensions} dimensions at most"
    if field.kind is not VectorKind.DENSE:
        return "" if limits.named_vectors or not field.name else "the store has no named vectors"
    if native_dtype(field.dtype, limits) is None:
        return f"the store has no type that holds {field.dtype.value}"
    room = limits.dense_fields if limits.named_vectors else 1
    if room is not None and dense_made >= room:
        return f"the store has room for {room} dense vector field{'s' if room > 1 else ''}"
    return ""


def native_dtype(dtype: DType, limits: SinkLimits) -> DType | None:
    """The type in which a sink holds numbers of `dtype`: the same, or the first wider one it has; None if neither."""
    return next((held for held in (dtype, *_WIDER[dtype]) if held in limits.dtypes), None)


def _name(field: VectorField, spec: CollectionSpec, limits: SinkLimits, several: bool) -> str:
    if field.kind is not VectorKind.DENSE:
        return field.name
    if not limits.named_vectors:
        return ""
    if field.name == "" and (several or not limits.unnamed_vector):
        return _stand_in(spec)
    return field.name


def _stand_in(spec: CollectionSpec) -> str:
    """A name for the unnamed field where a store only has names; none that the collection already uses."""
    taken = {field.name for field in spec.vectors}
    name = "vector"
    while name in taken:
        name += "_"
    return name


def _find_native(field: VectorField, spec: CollectionSpec, native: Mapping[str, VectorField]) -> str:
    same_kind = {name for name, found in native.items() if found.kind is field.kind}
    if field.name in same_kind:
        return field.name
    if field.kind is not VectorKind.DENSE:
        return "\0none"
    if field.name == "" and _stand_in(spec) in same_kind:
        return _stand_in(spec)
    # A store without names holds the first dense field that it could take, under no name; dimensions tell which.
    if "" in same_kind and native[""].dimensions == field.dimensions:
        return ""
    return "\0none"


def _native_id_kind(kind: IdKind, limits: SinkLimits) -> IdKind:
    if kind in limits.id_kinds:
        return kind
    for wanted in (IdKind.STRING, IdKind.UUID, IdKind.UINT64, IdKind.INT64):
        if wanted in limits.id_kinds:
            return wanted
    raise DataInvalid("the store declares no id kind at all")
