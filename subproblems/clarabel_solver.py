"""Clarabel behind the solver interface, for questions that no finite penalty curves; the only use of it by agents.

Such questions are linear programs but for a few costs. OSQP takes thousands to hundreds of thousands of steps
for them and fails on some; an interior-point method takes a dozen, and its multipliers are fit for a proof.
"""

from __future__ import annotations

import clarabel
import numpy as np
import scipy.sparse as sp

from admm import AnswerStatus
from subproblems.quadratic_program import INFINITE
from subproblems.solver import Numbers, SolverAnswer, contiguous

LOOSEST = 1e-7
"""Its time hardly depends on the accuracy, so it never works below this."""
STATUSES = {
    "Solved": (AnswerStatus.SOLVED, ""),
    "AlmostSolved": (AnswerStatus.INACCURATE, "Clarabel reached a loose tolerance only"),
    "PrimalInfeasible": (AnswerStatus.INFEASIBLE, "no point satisfies all constraints"),
    "AlmostPrimalInfeasible": (
        AnswerStatus.INFEASIBLE,
        "no point satisfies all constraints (within a loose tolerance)",
    ),
    "DualInfeasible": (AnswerStatus.UNBOUNDED, "the cost falls without end: a bound or a positive cost is missing"),
    "AlmostDualInfeasible": (AnswerStatus.UNBOUNDED, "the cost falls without end (within a loose tolerance)"),
}


class ClarabelSolver:
    """Solves each problem from scratch: an interior-point method gains nothing from a start."""

    def __init__(self, numbers: Numbers) -> None:
        self._settings = clarabel.DefaultSettings()
        self._settings.verbose = False
        self._settings.max_threads = 1  # runs reproduce, and agents already run side by side

    def solve(self, numbers: Numbers, accuracy: float) -> SolverAnswer:
        n, m = numbers.q.size, numbers.l.size
        lower, upper = (contiguous(getattr(numbers, key), m, key, infinite=True) for key in ("l", "u"))
        equal = np.flatnonzero(lower == upper)
        above = np.flatnonzero((upper < INFINITE) & (lower != upper))
        below = np.flatnonzero((lower > -INFINITE) & (lower != upper))
        rows = numbers.A.tocsr()
        settings = self._settings
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = min(accuracy, LOOSEST)
        found = clarabel.DefaultSolver(
            numbers.P,
            contiguous(numbers.q, n, "q"),
            sp.vstack([rows[equal], rows[above], -rows[below]], format="csc"),
            np.concatenate([upper[equal], upper[above], -lower[below]]),
            [clarabel.ZeroConeT(equal.size), clarabel.NonnegativeConeT(above.size + below.size)],
            settings,
        ).solve()
        name = str(found.status)
        status, reason = STATUSES.get(name, (AnswerStatus.FAILED, f"Clarabel ended with {name}"))
        z, y = np.asarray(found.z), np.zeros(m)
        y[equal] = z[: equal.size]
        y[above] += z[equal.size : equal.size + above.size]
        with np.errstate(invalid="ignore"):  # where it failed, multipliers may be anything
            y[below] -= z[equal.size + above.size :]
        x = np.array(found.x) if status.usable else np.zeros(n)
        certificate = y if status is AnswerStatus.INFEASIBLE else None
        return SolverAnswer(x, y, status, reason, int(found.iterations), certificate)
