"""One agent's problem as matrices, checked when it is made.

    minimise    1/2 x'Px + q'x + constant
    subject to  l <= Ax <= u

Position i of a variable means the label that `variables` gives it, row i of A the one in `rows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from admm import InputError
from admm.values import is_finite, real_numbers

INFINITE = 1e20
"""Bounds of at least this size count as none."""
SYMMETRY_TOLERANCE = 1e-9
CONVEXITY_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Block:
    """A named run of variables or rows. unit: of each entry. periods: what each stands for, where not all are there.

    fixed: of the rows of a balance, {what has no choice: kW an entry} as pairs. shown: in messages, another unit and
    how much of it one of the unit is; below 0 where it counts the other way. implied: rows that follow from others.
    bounds: whether the rows are the bounds of variables, one in each.
    """

    name: str
    start: int
    length: int
    unit: str = ""
    periods: tuple[int, ...] | None = None
    fixed: tuple[tuple[str, tuple[float, ...]], ...] = ()
    shown: tuple[str, float] | None = None
    implied: bool = False
    bounds: bool = False

    @property
    def entries(self) -> slice:
        return slice(self.start, self.start + self.length)


@dataclass(frozen=True)
class QuadraticProgram:
    """P: (n, n) symmetric, sparse. q: (n,). A: (m, n), sparse. l, u: (m,), infinite where open.

    boundary: {(coupling, quantity): positions (periods,)} of the variables that are boundary values.
    constant: EUR. variable_scale (n,) and row_scale (m,): nominal size of each variable and of each
    row's value; a solver works with x / variable_scale and Ax / row_scale, so tolerances are per unit.
    times: the start of each period in words, for messages; none where they are not known.
    Where not given, an agent finds sizes by itself (`subproblems.equilibrate`).
    """

    P: sp.csc_matrix
    q: np.ndarray
    A: sp.csc_matrix
    l: np.ndarray  # noqa: E741
    u: np.ndarray
    boundary: Mapping[tuple[str, str], np.ndarray]
    constant: float = 0.0
    variables: tuple[Block, ...] = ()
    rows: tuple[Block, ...] = ()
    variable_scale: np.ndarray | None = None
    row_scale: np.ndarray | None = None
    name: str = field(default="quadratic program")
    times: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        put = lambda key, value: object.__setattr__(self, key, value)  # noqa: E731
        put("P", self._matrix("P"))
        put("A", self._matrix("A"))
        n, m = self.P.shape[0], self.A.shape[0]
        put("q", self._vector("q", n))
        put("l", self._vector("l", m, infinite=True))
        put("u", self._vector("u", m, infinite=True))
        for key, size in (("variable_scale", n), ("row_scale", m)):
            if getattr(self, key) is not None:
                put(key, self._vector(key, size))
        if not isinstance(self.boundary, Mapping):
            raise self._error(f"boundary is {self.boundary!r}, expected {{(coupling, quantity): positions}}")
        put("boundary", {key: self._positions(key, at) for key, at in self.boundary.items()})
        if not isinstance(self.name, str):
            raise InputError(f"quadratic program: name is {self.name!r}, expected text")
        for key in ("variables", "rows"):
            blocks = getattr(self, key)
            if not isinstance(blocks, tuple | list) or not all(isinstance(block, Block) for block in blocks):
                raise self._error(f"{key} is {blocks!r}, expected a tuple of subproblems.quadratic_program.Block")
            put(key, tuple(blocks))
        if not is_finite(self.constant):
            raise self._error(f"constant is {self.constant!r}, expected a finite number")
        self._check(n, m)

    def like(self, own: QuadraticProgram) -> QuadraticProgram:
        """This program, checked once more. Raises ValueError unless it has the pattern and boundary of `own`."""
        checked = replace(self)
        for one, other in ((checked.P, own.P), (checked.A, own.A)):
            same = one.shape == other.shape and np.array_equal(one.indptr, other.indptr)
            if not (same and np.array_equal(one.indices, other.indices)):
                raise ValueError(f"{own.name}: the pattern of P or A is another")
        if checked.boundary.keys() != own.boundary.keys() or any(
            not np.array_equal(at, own.boundary[key]) for key, at in checked.boundary.items()
        ):
            raise ValueError(f"{own.name}: the boundary is another")
        return checked

    def _error(self, message: str) -> InputError:
        return InputError(f"{self.name}: {message}")

    def _matrix(self, key: str) -> sp.csc_matrix:
        given = getattr(self, key)
        try:
            _check_stored(given)
            matrix = sp.csc_matrix(given if sp.issparse(given) else real_numbers(given), dtype=float, copy=True)
        except (TypeError, ValueError, OverflowError) as error:
            found = f"{key} is {type(given).__name__}"
            found = f"{found} ({error}), expected" if sp.issparse(given) else f"{found}, expected"
            why = "" if sp.issparse(given) else f"; found {error}"
            raise self._error(f"{found} a sparse matrix of numbers{why}") from None
        if not np.isfinite(matrix.data).all():
            raise self._error(f"{key} has an entry that is not a finite number")
        matrix.sum_duplicates()  # and sorts; solvers read the arrays as they stand
        return matrix

    def _vector(self, key: str, size: int, infinite: bool = False) -> np.ndarray:
        value = getattr(self, key)
        try:
            array = real_numbers(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._error(f"{key} is {type(value).__name__}, expected {size} numbers; found {error}") from None
        if array.shape != (size,):
            raise self._error(f"{key} has shape {array.shape}, expected {(size,)}")
        if np.isnan(array).any() or (not infinite and np.isinf(array).any()):
            raise self._error(f"{key} has a value that is not a finite number, at position {_first_bad(array)}")
        return array

    def _positions(self, key: tuple[str, str], at: np.ndarray) -> np.ndarray:
        if not (isinstance(key, tuple) and len(key) == 2 and all(isinstance(part, str) for part in key)):
            raise self._error(f"boundary key is {key!r}, expected (coupling, quantity)")
        try:
            array = np.asarray(at)
        except ValueError:  # rows of different lengths
            array = np.empty((0, 0))
        if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
            raise self._error(f"boundary {key} is {at!r}, expected a list of positions of variables")
        n = self.P.shape[0]
        if array.min() < 0 or array.max() >= n:
            odd = array.min() if array.min() < 0 else array.max()
            raise self._error(f"boundary {key} names position {odd}, expected 0 to {n - 1}")
        return array.astype(np.int64)

    def _check(self, n: int, m: int) -> None:
        if self.P.shape != (n, n):
            raise self._error(f"P has shape {self.P.shape}, expected a square matrix")
        if self.A.shape != (m, n):
            raise self._error(f"A has shape {self.A.shape}, expected {(m, n)}: as many columns as P")
        if (self.l == np.inf).any() or (self.u == -np.inf).any():
            raise self._error(
                "l is +inf or u is -inf in a row, which no point satisfies: -inf and +inf leave a side open"
            )
        if (self.l > self.u).any():
            row = int(np.argmax(self.l > self.u))
            raise self._error(f"l is above u in row {row} ({self.row_label(row)}): {self.l[row]:g} > {self.u[row]:g}")
        for key in ("variable_scale", "row_scale"):
            if getattr(self, key) is not None and (getattr(self, key) <= 0).any():
                raise self._error(f"{key} has a value that is not above 0")
        taken = np.concatenate([*self.boundary.values()]) if self.boundary else np.empty(0, int)
        if np.unique(taken).size != taken.size:
            raise self._error(
                "a variable stands for two boundary values: give each its own variable and tie them by a row"
            )
        _check_convex(self)

    @property
    def size(self) -> int:
        """Number of variables."""
        return self.q.size

    def cost_eur(self, x: np.ndarray) -> float:
        """The cost of x, shape (n,)."""
        return float(0.5 * x @ (self.P @ x) + self.q @ x + self.constant)

    def violation(self, x: np.ndarray) -> np.ndarray:
        """By how much x violates each row, shape (m,), in the row's unit; 0 where it holds."""
        value = self.A @ x
        return np.maximum(0.0, np.maximum(self.l - value, value - self.u))

    def values(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """x by the variables' names: {name: array (length,)}."""
        blocks = self.variables or (Block("x", 0, self.size),)
        return {block.name: x[block.entries].copy() for block in blocks}

    def row_label(self, row: int) -> str:
        for block in self.rows:
            if block.start <= row < block.start + block.length:
                return f"{block.name}, entry {row - block.start}"
        return f"row {row}"

    def with_numbers(self, **changes: np.ndarray) -> QuadraticProgram:
        """The same program with other numbers; A may change in value, not in pattern."""
        return replace(self, **changes)


def _check_stored(given: Any) -> None:
    """Raises ValueError where a sparse matrix's index arrays do not fit it: compiled code would read beyond them.
    Raises TypeError where it stores no real numbers."""
    if not sp.issparse(given):
        return
    if given.dtype.kind not in "fiu":
        raise TypeError(f"of {given.dtype}")
    if given.format in ("csc", "csr", "bsr"):
        if (np.diff(given.indptr) < 0).any():  # scipy's own check passes where the last one is below 0
            raise ValueError("the index pointers fall")
        given.check_format(full_check=True)
    elif given.format == "coo":
        for index, size in zip(given.coords, given.shape, strict=True):
            if index.size != given.data.size or (index.size and not 0 <= index.min() <= index.max() < size):
                raise ValueError("an index is out of range")


def _first_bad(array: np.ndarray) -> int:
    return int(np.argmax(~np.isfinite(array)))


def _check_convex(qp: QuadraticProgram) -> None:
    """P must be symmetric and positive semidefinite: all pivots of P + a little are positive."""
    P = qp.P
    size = np.abs(P.data).max(initial=0.0)
    if size == 0:
        return
    if abs(P - P.T).max() > SYMMETRY_TOLERANCE * size:
        raise qp._error("P is not symmetric: expected both triangles, the same")
    diagonal = P.diagonal()
    lowest = diagonal.min()
    if lowest >= 0 and P.nnz != np.count_nonzero(diagonal):
        lowest = _lowest_pivot(P, diagonal)
    if lowest < 0:
        raise qp._error(
            f"P is not positive semidefinite (lowest pivot {lowest:.3g}), so the program is not convex: "
            "check the signs of the quadratic costs"
        )


def _lowest_pivot(P: sp.csc_matrix, diagonal: np.ndarray) -> float:
    """Of P with its diagonal scaled to one, so that small variables count as much as large ones."""
    scale = sp.diags_array(1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)))
    shifted = sp.csc_matrix(scale @ P @ scale + CONVEXITY_TOLERANCE * sp.eye_array(diagonal.size))
    options = {"SymmetricMode": True, "DiagPivotThresh": 0.0}
    try:
        factor = spla.splu(shifted, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    except RuntimeError:  # exactly singular: not positive definite although shifted
        return -1.0
    return float(factor.U.diagonal().min())
