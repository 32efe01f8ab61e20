"""What the collection is afterwards: the new field in the old one's place, or beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from exitramp.codec.layout import layout_for
from exitramp.embedding_identity import Identified
from exitramp.errors import DataInvalid, UsageError
from exitramp.ports import SinkLimits
from exitramp.records import CollectionSpec, DType, EmbeddingModel, Metric, VectorField, VectorKind

_HELD_BY_BITS = frozenset({Metric.HAMMING})


@dataclass(frozen=True, slots=True)
class Shape:
    """`spec` is the collection with the field `new`; `old` is the field that it replaces or stands beside, if any."""

    spec: CollectionSpec
    new: VectorField
    old: VectorField | None
    keeps_old: bool

    @property
    def given(self) -> Identified:
        return Identified.of(self.new)


def shape_of(
    spec: CollectionSpec,
    model: EmbeddingModel,
    dimensions: int,
    *,
    beside: str | None = None,
    replaced: str | None = None,
    metric: Metric | None = None,
) -> Shape:
    """The collection `spec` with vectors of `model`.

    `beside` is the name of a new field that stands beside the old one; None puts the new vectors in the place of the
    field `replaced`, which need only be named where there are several dense ones. `metric` None: the old field's.
    Raises `UsageError` where nobody can tell what is meant.
    """
    old = _old(spec, replaced)
    if beside is not None and any(each.kind is VectorKind.DENSE and each.name == beside for each in spec.vectors):
        raise UsageError(
            f"the collection has a vector field {beside!r} already", hint="give the new one another name with --field"
        )
    if metric is None and old is None:
        raise UsageError("the collection has no dense vector field whose metric could be kept", hint="add --metric")
    metric = metric or (old.metric if old is not None else Metric.COSINE)
    if metric in _HELD_BY_BITS:
        raise UsageError(
            f"the model's vectors are of numbers, which {metric.value} does not measure", hint="add --metric"
        )
    name = beside if beside is not None else old.name if old is not None else ""
    new = VectorField(name, VectorKind.DENSE, DType.FLOAT32, metric, dimensions, model)
    if beside is not None:
        fields = (*spec.vectors, new)
    elif old is None:
        fields = (new, *spec.vectors)
    else:
        fields = tuple(new if each is old else each for each in spec.vectors)
    return Shape(replace(spec, vectors=fields), new, old, beside is not None)


def require_room(shape: Shape, limits: SinkLimits) -> None:
    """Raises `UsageError` where the target would keep a dense field where no search finds it."""
    layout = layout_for(shape.spec, limits)
    for each in layout.fields:
        if each.native is None and each.original.kind is VectorKind.DENSE:
            raise UsageError(
                f"the target cannot search by the field '{each.original.column}': {each.why}",
                hint="leave --field away, so that the new vectors take the old ones' place, or choose another store",
            )


def dense_field(spec: CollectionSpec, name: str | None, *, option: str) -> VectorField:
    """The dense field called `name`, or the only one. Raises `UsageError` naming the `option` that tells which."""
    dense = [each for each in spec.vectors if each.kind is VectorKind.DENSE]
    if name is not None:
        found = spec.vector(name)
        if found.kind is not VectorKind.DENSE:
            raise DataInvalid(f"the vector field {name!r} is not dense", hint=f"name a dense one with {option}")
        return found
    if len(dense) != 1:
        named = ", ".join(repr(each.name) for each in dense) or "none"
        raise UsageError(f"the collection has not one dense vector field but: {named}", hint=f"say which with {option}")
    return dense[0]


def _old(spec: CollectionSpec, replaced: str | None) -> VectorField | None:
    if replaced is None and not any(each.kind is VectorKind.DENSE for each in spec.vectors):
        return None
    return dense_field(spec, replaced, option="--replace")
