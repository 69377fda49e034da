"""What devices do between gates when forecasts fail: what they were told, but a thermostat keeps its room warm.

Nobody is asked anew within a period, so powers move by themselves where a limit of a state would not hold otherwise:

    minimise    DEVIATION |change of powers| + price . (short + over)
    subject to  balances and limits of states and powers in the periods that are over

with prices far above what changes count, so that limits give way only where powers cannot keep them.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, milp

from admm import InfeasibleError
from subproblems import QuadraticProgram

DEVIATION_SHARE = 1e-2
"""Of the lowest price of a state that gives way, what a kW counts that is not as it was told."""
KEPT_KW = 1e-6
"""Changes below are those of an answer that is not exact."""


class LocalControl:
    """powers, states: which variables are powers of devices and states, (n,) true or false. cost_eur: (n,), of a unit
    of a state beyond its limits. row_period: (m,). limits: which rows are limits, (m,) true or false."""

    def __init__(
        self,
        qp: QuadraticProgram,
        powers: np.ndarray,
        states: np.ndarray,
        cost_eur: np.ndarray,
        row_period: np.ndarray,
        limits: np.ndarray,
    ) -> None:
        self._powers, self._states, self._cost = powers, states, cost_eur
        self._row_period, self._limits = row_period, limits
        self._period_of = np.concatenate([np.arange(block.length) for block in qp.variables])
        others = ~(powers | states)
        self._inside = abs(sp.csr_matrix(qp.A)) @ others.astype(float) == 0
        used = cost_eur[states]
        self._deviation = DEVIATION_SHARE * float(used[used > 0].min()) if (used > 0).any() else 0.0

    def kept(self, qp: QuadraticProgram, x: np.ndarray, first: int, end: int) -> np.ndarray:
        """x, (n,), with the powers of periods first to end - 1 moved as little as their states' limits ask.

        Raises InfeasibleError, beginning with the program's name, if balances cannot be kept at all.
        """
        if first >= end or not self._deviation:
            return x
        rows = np.flatnonzero(self._inside & (self._row_period < end) & ~(self._limits & (self._row_period < first)))
        columns = np.flatnonzero((self._powers | self._states) & (self._period_of < end))
        free = np.flatnonzero(self._powers[columns] & (self._period_of[columns] >= first))
        found = self._solve(qp, x, rows, columns, free)
        if found is None:
            raise InfeasibleError(f"{qp.name}: powers of devices cannot be kept in balance in periods {first} to {end}")
        done, at = x.copy(), columns[free]
        moved = np.abs(found[free] - x[at]) > KEPT_KW
        done[at[moved]] = found[free][moved]
        return done

    def _solve(
        self, qp: QuadraticProgram, x: np.ndarray, rows: np.ndarray, columns: np.ndarray, free: np.ndarray
    ) -> np.ndarray | None:
        """Values of `columns`: powers held but for `free`, which count by how far they move; states that give way."""
        A = sp.csr_matrix(qp.A)[rows][:, columns]
        states = np.flatnonzero(self._states[columns])
        limited = sp.diags_array(self._limits[rows].astype(float)) @ A[:, states]
        nothing = sp.csr_matrix((rows.size, 2 * free.size))
        own = sp.csr_matrix((np.ones(free.size), (np.arange(free.size), free)), (free.size, columns.size))
        eye = sp.identity(free.size)
        matrix = sp.bmat([[A, limited, -limited, nothing], [own, None, None, sp.hstack([-eye, eye])]], format="csc")
        lower, upper = np.concatenate([qp.l[rows], x[columns[free]]]), np.concatenate([qp.u[rows], x[columns[free]]])
        held = self._powers[columns].copy()
        held[free] = False
        least, most = np.where(held, x[columns], -np.inf), np.where(held, x[columns], np.inf)
        further = 2 * (states.size + free.size)
        prices = np.concatenate([np.tile(self._cost[columns[states]], 2), np.full(2 * free.size, self._deviation)])
        found = milp(
            np.concatenate([np.zeros(columns.size), prices]),
            constraints=LinearConstraint(matrix, lower, upper),
            bounds=Bounds(np.r_[least, np.zeros(further)], np.r_[most, np.full(further, np.inf)]),
        )
        return None if found.x is None else found.x[: columns.size]
