"""Random problems with an optimum that is known by construction, for the schemes that prove theirs.

Every agent's program is made around a point x* and multipliers y of its rows that have the right signs there:

    q = -(P x* + A'y + paid)        paid: the price of every boundary variable, signed for the agent

so x* is the agent's best answer to the price. The agents' boundary values at x* agree: x* is the optimum of the whole,
the price a best one, and the optimum the sum of costs at x*, without any solver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

import admm
from admm.couplings import Layout
from subproblems import QPAgent, QuadraticProgram

PERIODS = 3
PRICE_SCALE, SCALE = 40.0, 2.0
PRIVATE, ROWS = 4, 5
ROOM = 2.5
"""Largest distance of a variable's bounds from its optimum."""


@dataclass(frozen=True)
class Planted:
    """programs: {agent: its program}. value, price: (n,) over the layout, at the optimum."""

    programs: dict[str, QuadraticProgram]
    couplings: tuple[admm.Coupling, ...]
    optimum_eur: float
    value: np.ndarray
    price: np.ndarray

    @property
    def turnover_eur(self) -> float:
        return float(np.abs(self.value * self.price).sum())

    def agents(self, solver: str = "piqp", silent: Sequence[str] = ()) -> dict[str, QPAgent]:
        """silent: agents that do not share their cost."""
        return {n: QPAgent(p, solver=solver, shares_cost=n not in silent) for n, p in self.programs.items()}


def planted(seed: int, ends: Sequence[tuple[str, str]]) -> Planted:
    """ends: (lower, upper) of every coupling, each of two quantities."""
    rng = np.random.default_rng(seed)
    names = ("p_mw", "gas_mw")
    couplings = tuple(
        admm.Coupling(f"{low}-{up}", low, up, [admm.Quantity(q, PERIODS, "MW", SCALE, PRICE_SCALE) for q in names])
        for low, up in ends
    )
    layout = Layout(couplings)
    value, price = rng.uniform(-2.0, 3.0, layout.size), rng.uniform(10.0, 70.0, layout.size)
    programs, total = {}, 0.0
    for name in layout.agents:
        at = layout.entries(name)
        programs[name], cost = _program(rng, name, layout.boundary(name), value[at], price[at])
        total += cost
    return Planted(programs, couplings, total, value, price)


def _program(
    rng: np.random.Generator, name: str, boundary: admm.AgentBoundary, value: np.ndarray, price: np.ndarray
) -> tuple[QuadraticProgram, float]:
    """The agent's program and its cost at the optimum. The boundary comes first among its variables."""
    best = np.concatenate([value, rng.uniform(-1.0, 1.0, PRIVATE)])
    n = best.size
    root = rng.standard_normal((n // 2, n)) * (rng.random((n // 2, n)) < 0.4)
    rows = rng.standard_normal((ROWS, n)) * (rng.random((ROWS, n)) < 0.7)
    A = np.vstack([rows, np.eye(n)])
    lower, upper, multiplier = _ends_around(rng, A @ best, equalities=1)
    P, paid = 4.0 * root.T @ root, np.zeros(n)
    paid[: value.size] = boundary.sign * price
    q = -(P @ best + A.T @ multiplier + paid)
    at = {key: np.arange(s.start, s.stop) for key, s in boundary.slices().items()}
    constant = float(rng.uniform(-50.0, 50.0))
    program = QuadraticProgram(sp.csc_matrix(P), q, sp.csc_matrix(A), lower, upper, at, constant, name=name)
    return program, float(0.5 * best @ P @ best + q @ best + constant)


def _ends_around(
    rng: np.random.Generator, value: np.ndarray, equalities: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bounds of rows that hold `value`, a third of them binding, and multipliers; the first rows are equalities."""
    lower, upper = value - rng.uniform(0.3, ROOM, value.size), value + rng.uniform(0.3, ROOM, value.size)
    multiplier = np.zeros(value.size)
    kind = rng.integers(0, 6, value.size)
    lower[kind == 0], upper[kind == 1] = value[kind == 0], value[kind == 1]
    multiplier[kind == 0] = -rng.uniform(0.5, 20.0, (kind == 0).sum())
    multiplier[kind == 1] = rng.uniform(0.5, 20.0, (kind == 1).sum())
    lower[:equalities] = upper[:equalities] = value[:equalities]
    multiplier[:equalities] = rng.uniform(-20.0, 20.0, equalities)
    return lower, upper, multiplier


def supplied(seed: int) -> Planted:
    """Three agents at an operator "o", which leads, and a supplier "s" above it, which follows."""
    return planted(seed, [("a", "o"), ("b", "o"), ("c", "o"), ("o", "s")])


def hubs(seed: int) -> Planted:
    """Three agents at two operators "o" and "g", which lead together."""
    return planted(seed, [(hub, operator) for hub in "abc" for operator in "og"])


FAMILIES: dict[str, Callable[[int], Planted]] = {"supplied": supplied, "hubs": hubs}
