"""OSQP behind guards: the only module that imports it.

OSQP's Python layer checks neither lengths nor contiguity nor NaN and ignores return codes, so every
array is copied and checked here, and the status is read before any number. Re-equilibration after a
change of P or A does not rescale the iterates, so they are handed back each time.
"""

from __future__ import annotations

import numpy as np
import osqp

from admm import AnswerStatus
from subproblems.quadratic_program import INFINITE
from subproblems.solver import Numbers, SolverAnswer, contiguous

SETTINGS = {
    "verbose": False,
    "eps_rel": 0.0,  # norms in eps_rel are set by penalty prices, and would hide boundary errors
    "check_termination": 5,
    "adaptive_rho_interval": 25,  # in iterations, not seconds: runs reproduce
    "adaptive_rho_tolerance": 3.0,
    "alpha": 1.8,
    "max_iter": 20_000,
    "polishing": False,
    "scaling": 10,
    "eps_prim_inf": 1e-6,
    "eps_dual_inf": 1e-6,
}
POLISH_BELOW = 1e-5
"""Accuracy from which on the active set is polished."""
STATUSES = {
    1: (AnswerStatus.SOLVED, ""),
    2: (AnswerStatus.INACCURATE, "OSQP reached a loose tolerance only"),
    3: (AnswerStatus.INFEASIBLE, "no point satisfies all constraints"),
    4: (AnswerStatus.INFEASIBLE, "no point satisfies all constraints (within a loose tolerance)"),
    5: (AnswerStatus.UNBOUNDED, "the cost falls without end: a bound or a positive cost is missing"),
    6: (AnswerStatus.UNBOUNDED, "the cost falls without end (within a loose tolerance)"),
    7: (AnswerStatus.INACCURATE, "OSQP's iteration limit"),
    8: (AnswerStatus.FAILED, "OSQP's time limit"),
    9: (AnswerStatus.FAILED, "OSQP calls the problem non-convex"),
    11: (AnswerStatus.FAILED, "OSQP did not solve"),
}
INTERRUPTED, ITERATION_LIMIT = 10, 7
USABLE_BELOW = 1e-2
"""Residuals per unit at the iteration limit up to which an answer is still worth passing on as inaccurate."""
OSQP_INFINITE = 1e30
"""Smaller bounds count as finite in OSQP, which then finds no certificate of infeasibility."""


class OsqpSolver:
    """One problem pattern in one OSQP instance."""

    def __init__(self, numbers: Numbers) -> None:
        self._n, self._m = numbers.q.size, numbers.l.size
        self._solver = osqp.OSQP(algebra="builtin")
        self._p = contiguous(numbers.P.data, numbers.P.nnz, "P")
        self._a = contiguous(numbers.A.data, numbers.A.nnz, "A")
        self._solver.setup(
            P=numbers.P.copy(),
            q=contiguous(numbers.q, self._n, "q"),
            A=numbers.A.copy(),
            l=_bounds(numbers.l, self._m, "l"),
            u=_bounds(numbers.u, self._m, "u"),
            **SETTINGS,
        )
        self._accuracy = None
        self._x, self._y = np.zeros(self._n), np.zeros(self._m)

    def solve(self, numbers: Numbers, accuracy: float) -> SolverAnswer:
        self._update(numbers)
        if accuracy != self._accuracy:
            self._solver.update_settings(eps_abs=float(accuracy), polishing=bool(accuracy <= POLISH_BELOW))
            self._accuracy = accuracy
        info_and_point = self._solver.solve(raise_error=False)
        return self._read(info_and_point)

    def _update(self, numbers: Numbers) -> None:
        if (numbers.l > numbers.u).any():
            raise ValueError("solver: a lower bound is above its upper bound")  # OSQP would drop the whole update
        p = contiguous(numbers.P.data, self._p.size, "P")
        a = contiguous(numbers.A.data, self._a.size, "A")
        matrices = {}
        if not np.array_equal(p, self._p):
            matrices["Px"], self._p = p.copy(), p
        if not np.array_equal(a, self._a):
            matrices["Ax"], self._a = a.copy(), a
        self._solver.update(
            q=contiguous(numbers.q, self._n, "q"),
            l=_bounds(numbers.l, self._m, "l"),
            u=_bounds(numbers.u, self._m, "u"),
            **matrices,
        )
        if matrices:
            self._solver.warm_start(x=self._x.copy(), y=self._y.copy())

    def _read(self, result) -> SolverAnswer:
        info = result.info
        if info.status_val == INTERRUPTED:
            raise KeyboardInterrupt
        status, reason = STATUSES.get(info.status_val, (AnswerStatus.FAILED, f"OSQP status {info.status}"))
        worst = max(info.prim_res, info.dual_res)
        if info.status_val == ITERATION_LIMIT and not worst <= USABLE_BELOW:
            status, reason = AnswerStatus.FAILED, f"OSQP's iteration limit, with residuals of {worst:.1e}: check scales and bounds"
        if not status.usable:
            self._x, self._y = np.zeros(self._n), np.zeros(self._m)
            self._solver.warm_start(x=self._x.copy(), y=self._y.copy())
            certificate = np.array(result.prim_inf_cert) if status is AnswerStatus.INFEASIBLE else None
            return SolverAnswer(self._x, self._y, status, reason, info.iter, certificate)
        self._x, self._y = np.array(result.x, dtype=float), np.array(result.y, dtype=float)
        return SolverAnswer(self._x, self._y, status, reason, info.iter)


def _bounds(array: np.ndarray, size: int, what: str) -> np.ndarray:
    """A checked copy in which what counts as no bound does so in OSQP, too."""
    copy = contiguous(array, size, what, infinite=True)
    open_ends = np.abs(copy) >= INFINITE
    copy[open_ends] = np.copysign(OSQP_INFINITE, copy[open_ends])
    return copy
