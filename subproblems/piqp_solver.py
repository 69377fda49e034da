"""PIQP behind the same interface: exact and of even time; joint solves use it too. The only module that imports it."""

from __future__ import annotations

import numpy as np
import piqp
import scipy.sparse as sp

from admm import AnswerStatus
from subproblems.quadratic_program import INFINITE
from subproblems.solver import Numbers, SolverAnswer, contiguous

MOST_ITERATIONS = 250
LOOSEST = 1e-6
"""PIQP's time hardly depends on the accuracy, so it never works below this."""


class PiqpSolver:
    """One problem pattern in one PIQP instance; rows with equal bounds are its equalities, free rows are left out."""

    def __init__(self, numbers: Numbers, most_iterations: int = MOST_ITERATIONS) -> None:
        self._solver = piqp.SparseSolver()
        self._solver.settings.max_iter = most_iterations
        self._solver.settings.verbose = False
        self._solver.settings.eps_primal_inf = 1e-8  # the default gave a false "infeasible"
        self._kind: np.ndarray | None = None

    def solve(self, numbers: Numbers, accuracy: float) -> SolverAnswer:
        n, m = numbers.q.size, numbers.l.size
        kind = _row_kinds(numbers)
        fresh = self._kind is None or not np.array_equal(kind, self._kind)
        self._kind = kind
        settings = self._solver.settings
        settings.eps_abs = settings.eps_rel = min(accuracy, LOOSEST)
        settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = min(accuracy, LOOSEST)
        equal, other = np.flatnonzero(kind == EQUALITY), np.flatnonzero(kind == INEQUALITY)
        call = self._solver.setup if fresh else self._solver.update
        A, G = self._matrices(numbers.A, equal, other, fresh)
        call(
            self._curvature(numbers.P, fresh),
            contiguous(numbers.q, n, "q"),
            A,
            contiguous(numbers.u[equal], equal.size, "u"),
            G,
            _open_ended(numbers.l[other]),
            _open_ended(numbers.u[other]),
        )
        status, reason = self._status(self._solver.solve())
        result = self._solver.result
        y = np.zeros(m)
        y[equal] = result.y
        y[other] = np.asarray(result.z_u) - np.asarray(result.z_l)
        certificate = y if status is AnswerStatus.INFEASIBLE else None
        x = np.array(result.x) if status.usable else np.zeros(n)
        at_limit = status is AnswerStatus.INACCURATE
        return SolverAnswer(x, y, status, reason, result.info.iter, certificate, at_limit)

    def _curvature(self, P: sp.csc_matrix, fresh: bool) -> sp.csc_matrix | None:
        """None where it is the one that PIQP has."""
        if not fresh and np.array_equal(P.data, self._p):
            return None
        self._p = P.data.copy()
        return P.copy()

    def _matrices(
        self, A: sp.csc_matrix, equal: np.ndarray, other: np.ndarray, fresh: bool
    ) -> tuple[sp.csc_matrix | None, sp.csc_matrix | None]:
        """The equalities' rows and the others'; None where they are those that PIQP has: sorting them takes as long
        as half a solve."""
        if not fresh and np.array_equal(A.data, self._a):
            return None, None
        self._a = A.data.copy()
        rows = A.tocsr()
        return rows[equal].tocsc(), rows[other].tocsc()

    @staticmethod
    def _status(status) -> tuple[AnswerStatus, str]:
        name = getattr(status, "name", str(status))
        if name == "PIQP_SOLVED":
            return AnswerStatus.SOLVED, ""
        if name == "PIQP_MAX_ITER_REACHED":
            return AnswerStatus.INACCURATE, "PIQP's iteration limit"
        if name == "PIQP_PRIMAL_INFEASIBLE":
            return AnswerStatus.INFEASIBLE, "no point satisfies all constraints"
        if name == "PIQP_DUAL_INFEASIBLE":
            return AnswerStatus.UNBOUNDED, "the cost falls without end: a bound or a positive cost is missing"
        return AnswerStatus.FAILED, f"PIQP status {name}"


FREE, EQUALITY, INEQUALITY = 0, 1, 2


def _row_kinds(numbers: Numbers) -> np.ndarray:
    """Which of the three kinds each row is, shape (m,)."""
    kind = np.full(numbers.l.size, INEQUALITY)
    kind[numbers.l == numbers.u] = EQUALITY
    kind[(numbers.l <= -INFINITE) & (numbers.u >= INFINITE)] = FREE
    return kind


def _open_ended(bounds: np.ndarray) -> np.ndarray:
    """Bounds with real infinities where they are at least INFINITE in size."""
    ended = contiguous(bounds, bounds.size, "bounds", infinite=True)
    ended[np.abs(ended) >= INFINITE] *= np.inf
    return ended
