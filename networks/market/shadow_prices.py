"""Shadow prices inside the transmission operator's program, which its boundary alone does not show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from admm import SolverError
from networks.transmission import TransmissionModel
from subproblems import QuadraticProgram
from subproblems.clarabel_solver import ClarabelSolver
from subproblems.solver import Numbers

ACCURACY = 1e-8
STIFFNESS_EUR_PER_MWH = 1e6
"""Of what holds a boundary value, for a change by its whole size: at prices of some 50 it gives way by 5e-5 of that."""


@dataclass(frozen=True)
class ShadowPrices:
    """What one MWh more of load (T, buses), and one MW more of required reserve for an hour (T,), would cost, EUR."""

    bus_eur_per_mwh: np.ndarray
    reserve_up_eur_per_mwh: np.ndarray
    reserve_down_eur_per_mwh: np.ndarray


def shadow_prices(model: TransmissionModel, qp: QuadraticProgram, x: np.ndarray) -> ShadowPrices:
    """Where what substations draw and offer stays as it is in x, (n,). Raises SolverError if that cannot be solved.

    It is held by springs, as an answer may be a hair outside of what its own rows allow.
    """
    held = np.concatenate(list(qp.boundary.values()))
    size = np.ones(held.size) if qp.variable_scale is None else qp.variable_scale[held]
    spring, q = np.zeros(qp.size), qp.q.copy()
    spring[held] = STIFFNESS_EUR_PER_MWH * model.hours / size
    q[held] -= spring[held] * x[held]
    P = sp.triu(qp.P + sp.diags_array(spring), format="csc")
    numbers = Numbers(P, q, qp.A, qp.l, qp.u)
    found = ClarabelSolver(numbers).solve(numbers, ACCURACY)
    if not found.status.usable:
        raise SolverError(f"{qp.name}: shadow prices of its schedule cannot be found: {found.reason}")
    rows = {block.name: block.entries for block in qp.rows}
    per_unit = -model.feeders / model.hours

    def of(name: str) -> np.ndarray:
        return per_unit * found.y[rows[name]] if name in rows else np.zeros(model.periods)

    buses = [of(f"bus {bus}: power balance") for bus in model.grid.buses]
    return ShadowPrices(np.stack(buses, axis=1), *(of(f"reserve {way}: requirement") for way in ("up", "down")))
