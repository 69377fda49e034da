"""OSQP behind guards: the only module that imports it.

OSQP's Python layer checks neither lengths nor contiguity nor NaN and ignores return codes, so every
array is copied and checked here, and the status is read before any number. Re-equilibration after a
change of P or A does not rescale the iterates, so they are handed back each time.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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
    "polishing": False,  # OSQP 1.1 prints about it whatever "verbose" says, and the final accuracy does without
    "scaling": 10,
    "eps_prim_inf": 1e-6,
    "eps_dual_inf": 1e-6,
}
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
PROXIMAL, MOST_STEPS = 1e-2, 20
"""Curvature of the proximal steps, in scaled units, and how many are taken at most."""
SETTLED = 10.0
"""Gradient of the proximal term at which an answer has settled, per accuracy: what still moves then are private
parts with hardly any cost, and the steps go on in the next answer."""
UNSETTLED = "the answer still moves: the cost may fall without end (a bound or a positive cost is missing)"
USABLE_BELOW = 1e-2
"""Residuals per unit at the iteration limit up to which an answer is still worth passing on as inaccurate."""
OSQP_INFINITE = 1e30
"""Smaller bounds count as finite in OSQP, which then finds no certificate of infeasibility."""


class OsqpSolver:
    """One problem pattern in one OSQP instance.

    Parts without curvature (a load that may be served at any time) cost OSQP thousands of iterations. So
    a solve is a few proximal point steps: minimise f(x) + PROXIMAL / 2 |x - x_before|^2 until x stays where it
    is, to the accuracy asked for. The answer is that of f; near the end of a run one step does.
    """

    def __init__(self, numbers: Numbers, snapshot: Mapping[str, np.ndarray] | None = None) -> None:
        """snapshot: of a former solver on the same pattern, which this one takes up."""
        self._n, self._m = numbers.q.size, numbers.l.size
        self._x, self._y = np.zeros(self._n), np.zeros(self._m)
        self._diagonal = numbers.P.indptr[1:] - 1  # the last entry of each column of an upper triangle
        if snapshot is None:
            self._set_up(numbers, self._curvature(numbers), self._vectors(numbers))
        else:
            self._take_up(numbers, snapshot)

    def _set_up(self, numbers: Numbers, curvature: np.ndarray, vectors: Mapping[str, np.ndarray], **rho: float) -> None:
        """numbers: for their pattern and A. curvature: data of P. vectors: q, l, u, by which OSQP scales the costs."""
        self._p, self._a = curvature, contiguous(numbers.A.data, numbers.A.nnz, "A")
        self._accuracy, self._first = None, vectors
        P, A = numbers.P.copy(), numbers.A.copy()
        P.data = curvature.copy()
        self._solver = osqp.OSQP(algebra="builtin")
        self._solver.setup(P=P, A=A, **vectors, **rho, **SETTINGS)

    def _take_up(self, numbers: Numbers, then: Mapping[str, np.ndarray]) -> None:
        self._x, self._y = contiguous(then["x"], self._n, "x"), contiguous(then["y"], self._m, "y")
        numbers = replace(numbers, A=numbers.A.copy())
        numbers.A.data = contiguous(then["A"], numbers.A.nnz, "A")
        vectors = {"q": contiguous(then["q"], self._n, "q")} | {k: _bounds(then[k], self._m, k) for k in ("l", "u")}
        rho = float(then["rho"])
        if not (0 < rho < np.inf and (vectors["l"] <= vectors["u"]).all()):
            raise ValueError("solver: rho is not above 0, or a lower bound is above its upper bound")
        self._set_up(numbers, contiguous(then["P"], numbers.P.nnz, "P"), vectors, rho=rho)

    def snapshot(self) -> dict[str, np.ndarray]:
        """All that the next answer depends on."""
        return {"x": self._x, "y": self._y, "P": self._p, "A": self._a, **self._first, "rho": np.array(self._rho())}

    def _rho(self) -> float:
        """OSQP's own step size, which it adapts."""
        return self._solver._solver.get_settings().rho

    def solve(self, numbers: Numbers, accuracy: float) -> SolverAnswer:
        self._take_matrices(numbers)
        if accuracy != self._accuracy:
            self._solver.update_settings(eps_abs=float(accuracy))
            self._accuracy = accuracy
        iterations, at_limit = 0, False
        for _ in range(MOST_STEPS):
            before = self._x
            answer = self._read(self._step(numbers))
            iterations += answer.iterations
            at_limit = at_limit or answer.iterations >= SETTINGS["max_iter"]
            if not answer.status.usable or PROXIMAL * np.abs(answer.x - before).max() <= SETTLED * accuracy:
                return replace(answer, iterations=iterations, at_limit=at_limit)
        return replace(
            answer, iterations=iterations, at_limit=at_limit, status=AnswerStatus.INACCURATE, reason=UNSETTLED
        )

    def _curvature(self, numbers: Numbers) -> np.ndarray:
        data = contiguous(numbers.P.data, numbers.P.nnz, "P")
        data[self._diagonal] += PROXIMAL
        return data

    def _vectors(self, numbers: Numbers) -> dict[str, np.ndarray]:
        if (numbers.l > numbers.u).any():
            raise ValueError("solver: a lower bound is above its upper bound")  # OSQP would drop the whole update
        q = contiguous(numbers.q, self._n, "q") - PROXIMAL * self._x
        return {"q": q, "l": _bounds(numbers.l, self._m, "l"), "u": _bounds(numbers.u, self._m, "u")}

    def _take_matrices(self, numbers: Numbers) -> None:
        curvature = self._curvature(numbers)
        if not (np.array_equal(curvature, self._p) and np.array_equal(numbers.A.data, self._a)):
            self._set_up(numbers, curvature, self._vectors(numbers), rho=self._rho())

    def _step(self, numbers: Numbers) -> Any:
        """One solve, from the iterates before. OSQP takes Ctrl-C for itself: whoever listens to it is told, and if that
        is no reason to stop at once, the solve begins again."""
        while True:
            rho = self._rho()
            self._solver.update(**self._vectors(numbers))
            self._solver.warm_start(x=self._x.copy(), y=self._y.copy())
            found = self._solver.solve(raise_error=False)
            if found.info.status_val != INTERRUPTED:
                return found
            _tell_of_interrupt()
            accuracy = self._accuracy
            self._take_up(numbers, {**self.snapshot(), "rho": np.array(rho)})
            self._solver.update_settings(eps_abs=float(accuracy))
            self._accuracy = accuracy

    def _read(self, result: Any) -> SolverAnswer:
        info = result.info
        status, reason = STATUSES.get(info.status_val, (AnswerStatus.FAILED, f"OSQP status {info.status}"))
        worst = max(info.prim_res, info.dual_res)
        if info.status_val == ITERATION_LIMIT and not worst <= USABLE_BELOW:
            status, reason = (
                AnswerStatus.FAILED,
                f"OSQP's iteration limit, with residuals of {worst:.1e}: check scales and bounds",
            )
        if not status.usable:
            self._x, self._y = np.zeros(self._n), np.zeros(self._m)
            certificate = np.array(result.prim_inf_cert) if status is AnswerStatus.INFEASIBLE else None
            return SolverAnswer(self._x, self._y, status, reason, info.iter, certificate)
        self._x, self._y = np.array(result.x, dtype=float), np.array(result.y, dtype=float)
        return SolverAnswer(self._x, self._y, status, reason, info.iter)


def _tell_of_interrupt() -> None:
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, None)
    elif handler is not signal.SIG_IGN:
        raise KeyboardInterrupt


def _bounds(array: np.ndarray, size: int, what: str) -> np.ndarray:
    """A checked copy in which what counts as no bound does so in OSQP, too."""
    copy = contiguous(array, size, what, infinite=True)
    open_ends = np.abs(copy) >= INFINITE
    copy[open_ends] = np.copysign(OSQP_INFINITE, copy[open_ends])
    return copy
