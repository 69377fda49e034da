"""Linear systems of one size and one pattern, one a period."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from admm import SolverError

LARGEST_DENSE = 130
"""Unknowns up to which one batch of dense systems is faster than sparse ones in turn (24 of 63: 0.7 against 3.3 ms)."""


def solve_periods(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, right: np.ndarray, size: int
) -> np.ndarray:
    """x with A_t x_t = right_t; entries at one place add up.

    rows, columns: (nnz,). values: (T, nnz). right: (T, size, K). Raises SolverError if singular.
    """
    try:
        return _solved(rows, columns, values, right, size)
    except np.linalg.LinAlgError as error:
        raise SolverError(
            f"the equations of a flow have no unique solution ({error}): check the units of the network"
        ) from None


def _solved(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, right: np.ndarray, size: int) -> np.ndarray:
    if size <= LARGEST_DENSE:
        periods = values.shape[0]
        at = (np.arange(periods)[:, None] * size + rows) * size + columns
        matrix = np.bincount(at.ravel(), values.ravel(), minlength=periods * size * size)
        return np.linalg.solve(matrix.reshape(periods, size, size), right)
    return np.stack([_sparse(rows, columns, one, at, size) for one, at in zip(values, right, strict=True)])


def _sparse(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, right: np.ndarray, size: int) -> np.ndarray:
    try:
        return spla.splu(sp.csc_matrix((values, (rows, columns)), (size, size))).solve(right)
    except RuntimeError as error:
        raise np.linalg.LinAlgError(str(error)) from None
