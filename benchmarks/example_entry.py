"""An example of your own entry: one policy and one problem, in the same table as everything else.

    python -m benchmarks convergence --with benchmarks/example_entry.py --variants "square-root" default \\
        --subjects "two-shops*" "feeder33-tso57-00"

A variant is a dictionary of keywords of admm.Settings. A problem is anything with the attributes of
`benchmarks.subjects.Subject`; `solved_problem` makes one of programs and finds its optimum centrally. Its name
is FAMILY-INSTANCE.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

import admm
from benchmarks.subjects import Problem, solved_problem
from subproblems import QuadraticProgram

PERIODS = 4


class SquareRoot:
    """Starts at 1 per unit; after iterations 5, 10, ... 50 times sqrt(mismatch / dual step), within 0.1 .. 10."""

    name = "square-root"
    EVERY, UNTIL = 5, 50

    def start(self, layout) -> np.ndarray:
        return layout.price_scale / layout.scale

    def update(self, penalty: np.ndarray, seen: admm.Observation) -> np.ndarray:
        if seen.iteration % self.EVERY or seen.iteration > self.UNTIL:
            return penalty
        mismatch, step = np.linalg.norm(seen.mismatch), np.linalg.norm(seen.dual_step)
        return penalty * np.clip(np.sqrt(mismatch / step), 0.1, 10.0) if mismatch > 0 and step > 0 else penalty


def two_shops() -> Problem:
    """Two shops that may shed load (P in MW, EUR), and a supplier with a rising marginal cost."""
    wanted = {"shop-a": np.array([0.2, 0.4, 0.5, 0.3]), "shop-b": np.array([0.3, 0.3, 0.3, 0.2])}
    couplings = [admm.Coupling(f"{name}-grid", name, "grid", [_power()]) for name in wanted]
    programs = {name: _shop(name, load) for name, load in wanted.items()} | {"grid": _supplier(list(wanted))}
    return solved_problem("two-shops-00", programs, couplings)


def _power() -> admm.Quantity:
    return admm.Quantity("p_mw", PERIODS, "MW", scale=0.5, price_scale=50.0)


def _shop(name: str, load_mw: np.ndarray) -> QuadraticProgram:
    """Cost 100 (load - p)^2 EUR, 0 <= p <= load."""
    eye = sp.eye_array(PERIODS, format="csc")
    return QuadraticProgram(
        P=200 * eye, q=-200 * load_mw, A=eye, l=np.zeros(PERIODS), u=load_mw, constant=100 * float(load_mw @ load_mw),
        boundary={(f"{name}-grid", "p_mw"): np.arange(PERIODS)}, name=name,
    )  # fmt: skip


def _supplier(shops: list[str]) -> QuadraticProgram:
    """Supplies s = sum of the shops' p at a cost of 30 s + 40 s^2 EUR a period; s <= 0.25."""
    count, eye = len(shops), sp.eye_array(PERIODS, format="csc")
    total = sp.hstack([eye] * count, format="csc")
    boundary = {(f"{name}-grid", "p_mw"): PERIODS * i + np.arange(PERIODS) for i, name in enumerate(shops)}
    return QuadraticProgram(
        P=80 * (total.T @ total), q=np.full(count * PERIODS, 30.0), A=total, l=np.zeros(PERIODS),
        u=np.full(PERIODS, 0.25), boundary=boundary, name="grid",
    )  # fmt: skip


VARIANTS = {"square-root": {"penalty": SquareRoot(), "acceleration": "none"}}
PROBLEMS = {"two-shops-00": two_shops}
