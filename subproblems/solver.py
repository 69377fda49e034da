"""What a QP solver behind an agent must do; `osqp_solver`, `clarabel_solver` and `piqp_solver` do it.

A solver gets one problem, then only new numbers on the same pattern:

    minimise 1/2 x'Px + q'x  subject to  l <= Ax <= u

P is given as its upper triangle with every diagonal entry present, in CSC order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from admm import AnswerStatus, InputError


@dataclass(frozen=True)
class SolverAnswer:
    """x: (n,). y: (m,) multipliers of the rows, positive at the upper bound. certificate: (m,), a
    proof of infeasibility where the status is INFEASIBLE. at_limit: whether as many iterations as a solve may have were
    not enough on the way, even if the answer is SOLVED in the end."""

    x: np.ndarray
    y: np.ndarray
    status: AnswerStatus
    reason: str
    iterations: int
    certificate: np.ndarray | None = None
    at_limit: bool = False


@dataclass
class Numbers:
    """The numbers of one problem, see the top of the module."""

    P: sp.csc_matrix
    q: np.ndarray
    A: sp.csc_matrix
    l: np.ndarray  # noqa: E741
    u: np.ndarray


class QpSolver(Protocol):
    """One problem pattern, solved again and again.

    One whose answers depend on former ones may say how: `snapshot()` gives arrays, the constructor takes them as its
    second argument. One that may not, and does, is made anew where a run is to be resumed.
    """

    def __init__(self, numbers: Numbers) -> None: ...

    def solve(self, numbers: Numbers, accuracy: float) -> SolverAnswer:
        """Solve for new numbers on the first one's pattern, to an absolute accuracy of rows and gradient."""


def contiguous(array: np.ndarray, size: int, what: str, infinite: bool = False) -> np.ndarray:
    """A contiguous float64 copy, checked: solvers read raw memory and check nothing."""
    copy = np.array(array, dtype=np.float64, order="C")
    if copy.shape != (size,):
        raise InputError(f"solver: {what} has shape {copy.shape}, expected {(size,)}")
    if np.isnan(copy).any() or (not infinite and np.isinf(copy).any()):
        raise InputError(f"solver: {what} has a value that is not a finite number")
    return copy
