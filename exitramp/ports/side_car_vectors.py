"""Vectors of a collection that need not be in memory: looked at as an array is, by a slice or by numbers of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from exitramp.errors import IntegrityError
from exitramp.ports.side_car_rows import Numbers, Rows, is_run, located

VECTOR: Final = "vector"


class Matrix(Protocol):
    """As much of an array [rows, items] as is asked of one; an array is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, which: Any, /) -> Any:
        """The rows of a slice, or of an array of their numbers, as an array."""
        ...


def numbers_of(which: Any, count: int) -> Numbers:
    """The numbers of the rows that a slice, or an array of them, stands for."""
    return np.arange(*which.indices(count)) if isinstance(which, slice) else np.asarray(which, np.int64)


def forward(matrix: Matrix) -> Matrix:
    """The same for one who takes rows in ascending order and on one thread; see `Rows.forward`."""
    return matrix.forward() if isinstance(matrix, _Away) else matrix


class _Away:
    """One that is no array."""

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def forward(self) -> Matrix:
        return self

    def __getitem__(self, which: Any, /) -> Any:
        raise NotImplementedError


class ColumnMatrix(_Away):
    """The originals that a side-car has."""

    def __init__(self, rows: Rows, items: int) -> None:
        super().__init__((len(rows), items), np.float32)
        self._rows = rows

    def forward(self) -> Matrix:
        return ColumnMatrix(self._rows.forward([VECTOR]), self.shape[1])

    def __getitem__(self, which: Any, /) -> Any:
        rows = numbers_of(which, len(self))
        found = self._rows.take(rows).column(VECTOR).flatten().to_numpy(zero_copy_only=False)
        if len(found) != len(rows) * self.shape[1]:
            raise IntegrityError("a side-car has a row without a vector")
        return found.reshape(len(rows), self.shape[1])


class JoinedMatrix(_Away):
    """Some rows of one behind some rows of another: `parts` say which."""

    def __init__(self, parts: Sequence[tuple[Matrix, Numbers]], items: int, dtype: npt.DTypeLike) -> None:
        super().__init__((sum(len(rows) for _, rows in parts), items), dtype)
        self._parts = parts
        self._starts = np.cumsum([0, *(len(rows) for _, rows in parts[:-1])], dtype=np.int64)

    def forward(self) -> Matrix:
        return JoinedMatrix([(forward(matrix), rows) for matrix, rows in self._parts], self.shape[1], self.dtype)

    def __getitem__(self, which: Any, /) -> Any:
        rows = numbers_of(which, len(self))
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        for piece, spots, inside in located(self._starts, rows):
            matrix, chosen = self._parts[piece]
            inside = chosen[inside]
            part = matrix[int(inside[0]) : int(inside[-1]) + 1] if is_run(inside) else matrix[inside]
            if len(part) == len(rows) and isinstance(spots, slice):
                return part
            found[spots] = part
        return found


class Later(_Away):
    """What is read, all of it, once somebody asks for some."""

    def __init__(self, read: Callable[[], Matrix], shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        super().__init__(shape, dtype)
        self._read: Callable[[], Matrix] = read
        self._matrix: Matrix | None = None

    def __getitem__(self, which: Any, /) -> Any:
        self._matrix = self._read() if self._matrix is None else self._matrix
        return self._matrix[which]
