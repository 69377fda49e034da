"""Solvers that are stuck, in place of the real ones: see test_stuck_solver."""

from __future__ import annotations

from dataclasses import replace

from admm import AnswerStatus
from subproblems.osqp_solver import OsqpSolver
from subproblems.piqp_solver import PiqpSolver
from subproblems.solver import Numbers, SolverAnswer

ITERATIONS = 20_000


class AtItsLimit(OsqpSolver):
    """Its answers are nearly right, and take all iterations that there are."""

    def solve(self, numbers: Numbers, accuracy: float) -> SolverAnswer:
        found = super().solve(numbers, accuracy)
        return replace(found, status=AnswerStatus.INACCURATE, iterations=ITERATIONS, at_limit=True)


class LateAtItsLimit(OsqpSolver):
    """Meets its limit on the way, and is right in the end."""

    def solve(self, numbers: Numbers, accuracy: float) -> SolverAnswer:
        return replace(super().solve(numbers, accuracy), iterations=ITERATIONS + 100, at_limit=True)


class Failing(PiqpSolver):
    """Has no answers."""

    def solve(self, numbers: Numbers, accuracy: float) -> SolverAnswer:
        return replace(super().solve(numbers, accuracy), status=AnswerStatus.FAILED, reason="planted")


class Inaccurate(PiqpSolver):
    """Says that its answers are not exact."""

    def solve(self, numbers: Numbers, accuracy: float) -> SolverAnswer:
        return replace(super().solve(numbers, accuracy), status=AnswerStatus.INACCURATE, at_limit=True)
