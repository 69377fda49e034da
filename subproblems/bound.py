"""A lower bound of what a program can cost at given prices, proven by any x and any multipliers.

    minimise  1/2 z'Pz + c'z + constant   subject to  l <= Az <= u,     c = q + price

For any x, any nu and any diagonal D with P - D positive semidefinite, every feasible z has

    cost(z) >= constant - 1/2 x'Px - sum_j max(nu_j u_j, nu_j l_j) + sum_k [r_k z_k + 1/2 D_k (z_k - x_k)^2]
    r = c + Px + A'nu

because 1/2 z'Pz >= x'Pz - 1/2 x'Px + 1/2 (z - x)'D(z - x) and nu'Az <= sum_j max(nu_j u_j, nu_j l_j). Of the
bracket the minimum over a box around all feasible points is taken, variable by variable. So what a solver
leaves unsolved costs tightness, never truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import lsmr

from subproblems.box import EPSILON, Box
from subproblems.quadratic_program import INFINITE, QuadraticProgram

REPAIRS = 4
"""Times that multipliers are moved to close reduced costs that point at an open end of the box."""
REPAIR_TOLERANCE = 1e-15


def safe_bound(
    program: QuadraticProgram, box: Box, x: np.ndarray, multiplier: np.ndarray, price: np.ndarray
) -> float | None:
    """A number, EUR, that no feasible z undercuts with cost(z) + price . z; None where none is found.

    box: of this program, by `outer_box`. x: (n,), need not be feasible. multiplier: (m,), of the rows, EUR per
    unit of the row, positive at the upper end. price: (n,), EUR per unit of the variable, 0 where none is paid.
    There is none where a variable without an end and without curvature has a cost that no row takes up.
    """
    if not (np.isfinite(x).all() and np.isfinite(multiplier).all()):
        return None
    dual = _DualFunction(program, box, x, price)
    multiplier = dual.admissible(multiplier)
    for _ in range(REPAIRS):
        at = dual.lagrangian(multiplier)
        if not at.escaping.any():
            return at.value_eur
        multiplier = dual.admissible(multiplier + dual.repair(multiplier, at))
    return None


@dataclass(frozen=True)
class _Lagrangian:
    """value_eur: the bound, where nothing escapes. reduced: r, (n,). escaping: (n,), whether r pulls a variable
    without curvature to an open end."""

    value_eur: float
    reduced: np.ndarray
    escaping: np.ndarray


class _DualFunction:
    """One program at one x and one price; see the top of the module."""

    def __init__(self, program: QuadraticProgram, box: Box, x: np.ndarray, price: np.ndarray) -> None:
        self.program, self.box, self.x = program, box, x
        self.Px = program.P @ x
        self.gradient = program.q + price + self.Px
        self.flat = box.curvature <= 0
        self._P_abs, self._A_abs = abs(program.P), abs(program.A)
        self._gradient_size = np.abs(program.q) + np.abs(price) + self._P_abs @ np.abs(x)
        self._unit = EPSILON * (32 + max(_longest(program.P), _longest(program.A)))
        entries = np.bincount(program.A.indices, minlength=program.l.size)
        self._closed_above = (program.u < INFINITE) & (entries > 1)
        self._closed_below = (program.l > -INFINITE) & (entries > 1)

    def admissible(self, nu: np.ndarray) -> np.ndarray:
        """0 where nu points at an open end, and for rows with one entry: the box does what they do, exactly."""
        return np.where(np.where(nu > 0, self._closed_above, self._closed_below), nu, 0.0)

    def lagrangian(self, nu: np.ndarray) -> _Lagrangian:
        box, x, program = self.box, self.x, self.program
        r = self.gradient + program.A.T @ nu
        doubt = self._unit * (self._gradient_size + self._A_abs.T @ np.abs(nu))
        r = np.where(self._open(r) & (np.abs(r) <= doubt), 0.0, r)
        steep = np.where(self.flat, 1.0, box.curvature)
        z = np.where(self.flat, np.where(r > 0, box.lower, box.upper), np.clip(x - r / steep, box.lower, box.upper))
        z = np.where(self.flat & (r == 0), np.clip(0.0, box.lower, box.upper), z)
        escaping = ~np.isfinite(z)
        z = np.where(escaping, 0.0, z)
        support = nu * np.where(nu > 0, program.u, np.where(nu < 0, program.l, 0.0))
        value = program.constant - 0.5 * x @ self.Px - support.sum()
        value += (r * z + 0.5 * box.curvature * (z - x) ** 2).sum()
        return _Lagrangian(float(value - self._rounding(doubt, z, support)), r, escaping)

    def _open(self, r: np.ndarray) -> np.ndarray:
        """Whether r points at an open end, and nothing but r holds the variable."""
        return self.flat & np.isinf(np.where(r > 0, self.box.lower, self.box.upper))

    def _rounding(self, doubt: np.ndarray, z: np.ndarray, support: np.ndarray) -> float:
        """EUR by which the sums may be wrong in floating point: products of doubt and box, and their totals."""
        reach = np.maximum(np.abs(self.box.lower), np.abs(self.box.upper))
        reach = np.where(np.isfinite(reach), reach, np.abs(z))
        totals = abs(self.program.constant) + np.abs(self.x) @ (self._P_abs @ np.abs(self.x)) + np.abs(support).sum()
        return float(doubt @ reach + self._unit * totals)

    def repair(self, nu: np.ndarray, at: _Lagrangian) -> np.ndarray:
        """The least change of multipliers, (m,), that makes the reduced costs of the open variables zero.

        Multipliers of inequalities move in proportion to their size: those of rows that do not bind stay at 0.
        """
        program, box = self.program, self.box
        loose = np.flatnonzero(self.flat & (at.escaping | (np.isinf(box.lower) & np.isinf(box.upper))))
        weight = np.where(program.l == program.u, 1.0, np.abs(nu) / max(np.abs(nu).max(initial=0.0), 1e-300))
        weight = np.where(self._closed_above | self._closed_below, weight, 0.0)
        system = (sp.diags_array(weight) @ program.A[:, loose]).T
        tolerances = {"atol": REPAIR_TOLERANCE, "btol": REPAIR_TOLERANCE, "conlim": 0.0}
        return weight * lsmr(system, -at.reduced[loose], maxiter=4 * loose.size, **tolerances)[0]


def _longest(matrix: sp.csc_matrix) -> int:
    """The most entries of a column."""
    return int(np.diff(matrix.indptr).max(initial=0))
