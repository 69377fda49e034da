"""Outer boxes of a program's feasible points, and how strongly its cost curves along each variable.

Variables of a QuadraticProgram have no bounds of their own: a bound is a row with one entry, and many
variables are bounded only through rows with several. Interval propagation finds both kinds. For every
entry a_ij of a row  l_i <= sum_j a_ij x_j <= u_i

    a_ij x_j <= u_i - (least value of the row's other terms),   a_ij x_j >= l_i - (their largest value)

over the box found so far, again and again while infinite ends become finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from subproblems.quadratic_program import INFINITE, QuadraticProgram

MOST_ROUNDS = 100
"""Rounds of propagation at most: how far along a chain of rows a bound is carried."""
LARGEST_BLOCK = 400
"""Variables that P couples, up to which the smallest eigenvalue of their block is computed; beyond, curvature is 0."""
EIGENVALUE_MARGIN = 1e-11
"""Taken off an eigenvalue of a block of unit diagonal, an entry: more than its rounding error."""
EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Box:
    """lower, upper: (n,), in the variables' units: every feasible point lies between them; infinite where
    nothing was found. curvature: (n,), EUR per unit squared, such that P - diag(curvature) is positive
    semidefinite."""

    lower: np.ndarray
    upper: np.ndarray
    curvature: np.ndarray


def outer_box(program: QuadraticProgram) -> Box:
    """The box of a program. Where the program has no feasible point, the box may be empty (lower above upper)."""
    lower, upper = _Propagation(program).run()
    return Box(lower, upper, curvature(program.P))


class _Propagation:
    """The entries of A by column, rows with their ends, and the box found so far."""

    def __init__(self, program: QuadraticProgram) -> None:
        A = program.A.copy()
        A.eliminate_zeros()
        n, self._m = program.size, program.l.size
        self._a, self._row, self._column = A.data, A.indices, np.repeat(np.arange(n), np.diff(A.indptr))
        self._used = np.flatnonzero(np.diff(A.indptr))  # columns with entries, each a run of them
        self._start = A.indptr[self._used]
        self._l = np.where(program.l <= -INFINITE, -np.inf, program.l)
        self._u = np.where(program.u >= INFINITE, np.inf, program.u)
        self._hair = EPSILON * (4 + np.bincount(self._row, minlength=self._m))
        self.lower, self.upper = np.full(n, -np.inf), np.full(n, np.inf)

    def run(self) -> tuple[np.ndarray, np.ndarray]:
        for _ in range(MOST_ROUNDS):
            before = self._open_ends()
            self._round()
            if self._open_ends() in (0, before):
                break
        return self.lower, self.upper

    def _open_ends(self) -> int:
        return int(np.isinf(self.lower).sum() + np.isinf(self.upper).sum())

    def _round(self) -> None:
        rising, row = self._a > 0, self._row
        low, high = self.lower[self._column], self.upper[self._column]
        least = self._a * np.where(rising, low, high)
        most = self._a * np.where(rising, high, low)
        above, above_error = self._others(least, self._u)
        below, below_error = self._others(-most, -self._l)
        top = (self._u[row] - above + above_error) / self._a
        bottom = (self._l[row] + below - below_error) / self._a
        self._tighten(np.where(rising, bottom, top), np.where(rising, top, bottom))

    def _others(self, terms: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each entry the sum of the row's other terms, -inf where one of them is; and its rounding error."""
        row, finite = self._row, np.isfinite(terms)
        held = np.where(finite, terms, 0.0)
        total, size = np.bincount(row, held, self._m), np.bincount(row, np.abs(held), self._m)
        others_open = np.bincount(row, ~finite, self._m)[row] - ~finite > 0
        error = self._hair * (size + np.where(np.isfinite(ends), np.abs(ends), 0.0))
        return np.where(others_open, -np.inf, total[row] - held), error[row]

    def _tighten(self, lower: np.ndarray, upper: np.ndarray) -> None:
        """Take the best of each column's new ends, a hair outward; what counts as no bound stays open."""
        if self._used.size == 0:
            return
        bottom = np.maximum.reduceat(lower, self._start)
        top = np.minimum.reduceat(upper, self._start)
        bottom = np.where(bottom <= -INFINITE, -np.inf, bottom - 4 * EPSILON * np.abs(bottom))
        top = np.where(top >= INFINITE, np.inf, top + 4 * EPSILON * np.abs(top))
        self.lower[self._used] = np.maximum(self.lower[self._used], bottom)
        self.upper[self._used] = np.minimum(self.upper[self._used], top)


def curvature(P: sp.csc_matrix) -> np.ndarray:
    """A diagonal, (n,), that P is at least: P - diag(curvature) is positive semidefinite.

    Variables that P does not couple keep their diagonal. A coupled block S B S of unit diagonal is at least
    lambda_min(B), so the diagonal keeps that share.
    """
    diagonal = np.maximum(P.diagonal(), 0.0)
    _, label = sp.csgraph.connected_components(P, directed=False)
    share = np.ones(diagonal.size)
    order = np.argsort(label, kind="stable")
    for block in np.split(order, np.flatnonzero(np.diff(label[order])) + 1):
        if block.size > 1:
            share[block] = _smallest_share(P, diagonal, block)
    return diagonal * share


def _smallest_share(P: sp.csc_matrix, diagonal: np.ndarray, block: np.ndarray) -> float:
    if block.size > LARGEST_BLOCK or (diagonal[block] == 0).any():
        return 0.0
    root = 1.0 / np.sqrt(diagonal[block])
    scaled = root[:, None] * P[block][:, block].toarray() * root
    return max(0.0, float(np.linalg.eigvalsh(scaled)[0]) - EIGENVALUE_MARGIN * block.size)
