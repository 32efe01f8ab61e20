"""Whether what came back is what was put in, to the bit or within the class that the sink declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from exitramp.codec import lay_out
from exitramp.ports import SinkLimits
from exitramp.records import CollectionSpec, RecordKey, VectorField, VectorKind
from exitramp.testing.rows import Row, Vector

ROUNDED_ULP = 4
# Two ways to normalise a float32 vector were measured up to 3 ulp apart; near 1 that is 3.6e-7.
DIRECTION_TOLERANCE: Mapping[str, float] = {"float16": 2e-3, "float32": 1e-6, "float64": 1e-6}


def assert_same_keys(expected: Iterable[RecordKey], found: Iterable[RecordKey], what: str = "") -> None:
    """Each key as often as expected: none lost, none new, none doubled."""
    wanted, got = Counter(expected), Counter(found)
    lost = sorted(map(repr, (wanted - got).keys()))
    extra = sorted(f"{key!r} x{got[key]}" for key in (got - wanted))
    assert not lost, f"{what}: {len(lost)} of {wanted.total()} records are missing: {lost[:5]}"
    assert not extra, f"{what}: {len(extra)} records are there that should not be, or are doubled: {extra[:5]}"


def assert_same_records(
    expected: Sequence[Row], found: Sequence[Row], spec: CollectionSpec, limits: SinkLimits, what: str = ""
) -> None:
    """The same records whatever their order: documents and payloads exactly, vectors within their declared class."""
    assert_same_keys([row.key for row in expected], [row.key for row in found], what)
    by_key = {row.key: row for row in found}
    native = {layout.original.column: layout.native for layout in lay_out(spec, limits).fields}
    for row in expected:
        got = by_key[row.key]
        where = f"{what}: record {row.key!r}"
        assert got.document == row.document, f"{where}: the document came back as another one"
        assert got.payload_text == row.payload_text, (
            f"{where}: the payload {_short(row.payload_text)} came back as {_short(got.payload_text)}"
        )
        for field in spec.vectors:
            assert_same_vector(
                row.vectors.get(field.column), got.vectors.get(field.column), native[field.column], limits, where, field
            )


def assert_same_vector(
    expected: Vector | None,
    found: Vector | None,
    native: VectorField | None,
    limits: SinkLimits,
    where: str,
    field: VectorField,
) -> None:
    """`native` is how the sink holds the field; None, if the codec keeps it, which is always bit for bit."""
    where = f"{where}: '{field.column}'"
    if expected is None or found is None:
        assert expected is None, f"{where}: the vector is missing"
        assert found is None, f"{where}: there is a vector where there was none"
        return
    if field.kind is VectorKind.SPARSE:
        assert_same_bits(_sorted(expected)[0], _sorted(found)[0], f"{where} indices")
        assert_same_bits(_sorted(expected)[1], _sorted(found)[1], f"{where} values")
        return
    one, other = np.asarray(expected), np.asarray(found)
    assert one.shape == other.shape, f"{where}: shape {one.shape} came back as {other.shape}"
    assert one.dtype == other.dtype, f"{where}: dtype {one.dtype} came back as {other.dtype}"
    if native is not None and native.metric in limits.normalises and one.dtype.kind == "f":
        assert_same_direction(one, other, where)
    elif native is not None and native.metric in limits.rounds and one.dtype.kind == "f":
        furthest = int(ulp_distance(one, other).max(initial=0))
        assert furthest <= ROUNDED_ULP, f"{where}: came back {furthest} ulp off, of at most {ROUNDED_ULP}"
    else:
        assert_same_bits(one, other, where)


def assert_same_bits(expected: npt.NDArray[Any], found: npt.NDArray[Any], where: str) -> None:
    """NaN, -0.0 and subnormals included."""
    if expected.tobytes() == found.tobytes():
        return
    width = np.dtype(f"u{expected.dtype.itemsize}")
    differ = np.flatnonzero(expected.ravel().view(width) != found.ravel().view(width))
    first = int(differ[0])
    raise AssertionError(
        f"{where}: {len(differ)} of {expected.size} numbers differ in their bits, the first at {first}: "
        f"{expected.ravel()[first]!r} came back as {found.ravel()[first]!r}"
    )


def assert_same_direction(expected: npt.NDArray[Any], found: npt.NDArray[Any], where: str) -> None:
    """`found` is `expected` or points the same way; magnitude is not compared, since the sink says it is lost."""
    if expected.tobytes() == found.tobytes():
        return
    tolerance = DIRECTION_TOLERANCE[str(expected.dtype)]
    apart = float(np.abs(_unit(expected) - _unit(found)).max(initial=0.0))
    assert apart <= tolerance, f"{where}: the direction is {apart:.2e} off, of at most {tolerance:.0e}"


def ulp_distance(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """How many representable numbers lie between each pair; NaN is none from NaN and 2^63 from all else."""
    first, second = _ordinal(one), _ordinal(other)
    distance = np.where(first > second, first - second, second - first)
    both, either = np.isnan(one) & np.isnan(other), np.isnan(one) | np.isnan(other)
    result: npt.NDArray[np.uint64] = np.where(both, np.uint64(0), np.where(either, np.uint64(2**63), distance))
    return result


def _ordinal(array: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Numbers as unsigned integers in the same order: negative ones turned round, the others above them."""
    width = 8 * array.dtype.itemsize
    bits = array.view(np.dtype(f"u{array.dtype.itemsize}")).astype(np.uint64)
    sign = np.uint64(1 << (width - 1))
    ordered: npt.NDArray[np.uint64] = np.where(bits & sign, np.uint64((1 << width) - 1) - bits, bits | sign)
    return ordered


def _unit(vector: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    wide = vector.astype(np.float64)
    largest = np.abs(wide).max(initial=0.0)
    if largest in (0.0, np.inf) or np.isnan(largest):
        return wide
    scaled = wide / largest  # so that the squares neither overflow nor vanish
    norms = np.linalg.norm(scaled, axis=-1, keepdims=True)
    unit: npt.NDArray[np.float64] = np.divide(scaled, norms, out=np.zeros_like(scaled), where=norms > 0)
    return unit


def _sorted(vector: Vector) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    order = np.argsort(vector[0], kind="stable")
    return np.asarray(vector[0])[order], np.asarray(vector[1])[order]


def _short(text: str | None) -> str:
    return "none" if text is None else text if len(text) <= 120 else f"{text[:120]}… ({len(text)} characters)"
