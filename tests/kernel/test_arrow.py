"""Columns of vectors are what the Arrow format asks for, wherever their numbers come from."""

from __future__ import annotations

import numpy as np
import pytest

from exitramp.arrow import dense_array, dense_matrix
from exitramp.records import DType, Metric, VectorField, VectorKind

FIELD = VectorField("", VectorKind.DENSE, DType.FLOAT32, Metric.COSINE, 3)


@pytest.mark.parametrize("behind", range(8))
def test_numbers_cut_out_of_a_message_are_aligned_in_a_column(behind: int) -> None:
    """LanceDB ends with a panic on a column whose numbers are not."""
    wanted = np.arange(6, dtype="<f4").reshape(2, 3)
    cut = np.frombuffer(memoryview(bytes(behind) + wanted.tobytes())[behind:], "<f4").reshape(2, 3)
    column = dense_array(cut, FIELD)
    assert column.values.buffers()[1].address % 4 == 0
    assert np.array_equal(dense_matrix(column), wanted)


def test_aligned_numbers_are_not_copied() -> None:
    matrix = np.zeros((2, 3), np.float32)
    assert dense_array(matrix, FIELD).values.buffers()[1].address == matrix.ctypes.data
