"""Random coupled QPs, feasible by construction: 2 to 6 agents on trees and cycles, of six kinds.

A point is drawn first. Every row and bound of an agent leaves room around its own values there, and boundary values at
both ends of a coupling are the same there: so the whole has a solution, and with its bounds a finite one.

plain:   curved or linear costs, rows with several entries, bounds, some agents with a rank-deficient cost
lp:      linear costs only
zero:    agents without any cost beside others
scale:   scales of quantities over 1e-3 to 1e3, each its own, and prices in the same units
scarce:  at most entries the two ends' limits leave 1e-4 to 1e-1 of the scale between them, and one variable is dear
wild:    all of these at once, prices up to 40 times what the scale says
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

import admm
from subproblems import QPAgent, QuadraticProgram

KINDS = ("plain", "lp", "zero", "scale", "scarce", "wild")
FAR = 3.0
"""Largest distance of a bound from the point that was drawn, in scales."""
WORTH_EUR = 40.0
"""What one scale of a quantity is worth at its price scale, about: units differ, what is exchanged does not."""


@dataclass(frozen=True)
class RandomProblem:
    """programs: {agent: its program}; couplings between them."""

    programs: dict[str, QuadraticProgram]
    couplings: tuple[admm.Coupling, ...]

    def agents(self, solver: str = "osqp", shares_cost: bool = True) -> dict[str, QPAgent]:
        """Agents that have been asked nothing yet."""
        return {name: QPAgent(program, solver, shares_cost) for name, program in self.programs.items()}


def random_problem(kind: str, seed: int) -> RandomProblem:
    """One problem of a kind; the same seed gives the same one."""
    if kind not in KINDS:
        raise admm.InputError(f"kind is {kind!r}, expected one of {', '.join(KINDS)}")
    rng = np.random.default_rng([KINDS.index(kind), seed])
    ends, periods = _graph(rng), int(rng.integers(1, 5))
    couplings = tuple(_coupling(rng, kind, i, *pair, periods) for i, pair in enumerate(ends))
    point = {
        (one.name, quantity.name): quantity.scale * rng.uniform(-1.0, 1.0, periods)
        for one in couplings
        for quantity in one.quantities
    }
    room = _room(rng, kind, couplings, periods)
    names = sorted({name for pair in ends for name in pair})
    programs = {name: _program(rng, kind, name, couplings, point, room) for name in names}
    return RandomProblem(programs, couplings)


def _graph(rng: np.random.Generator) -> list[tuple[str, str]]:
    """A random tree, and up to two further couplings, which may close odd cycles."""
    count = int(rng.integers(2, 7))
    ends = [(f"a{i}", f"a{int(rng.integers(0, i))}") for i in range(1, count)]
    for _ in range(int(rng.integers(0, 3)) if count > 2 else 0):
        one, other = rng.choice(count, 2, replace=False)
        if (f"a{one}", f"a{other}") not in ends and (f"a{other}", f"a{one}") not in ends:
            ends.append((f"a{max(one, other)}", f"a{min(one, other)}"))
    return ends


def _coupling(rng: np.random.Generator, kind: str, i: int, lower: str, upper: str, periods: int) -> admm.Coupling:
    decades = 3.0 if kind in ("scale", "wild") else 0.5
    quantities = []
    for name in ("p", "gas")[: int(rng.integers(1, 3))]:
        scale = float(10 ** rng.uniform(-decades, decades))
        quantities.append(
            admm.Quantity(name, periods, "MW", scale, float(WORTH_EUR * 10 ** rng.uniform(-0.3, 0.3) / scale))
        )
    return admm.Coupling(f"c{i}", lower, upper, quantities)


Room = dict[tuple[str, str], dict[str, tuple[np.ndarray, np.ndarray]]]
"""By boundary value and end ("lower", "upper"): how far bounds lie below and above the point, in scales, (periods,)."""


def _room(rng: np.random.Generator, kind: str, couplings: tuple[admm.Coupling, ...], periods: int) -> Room:
    found: Room = {}
    for coupling in couplings:
        for quantity in coupling.quantities:
            ends = {
                end: (rng.uniform(0.05, FAR, periods), rng.uniform(0.05, FAR, periods)) for end in ("lower", "upper")
            }
            if kind in ("scarce", "wild"):
                scarce = rng.random(periods) < 0.6
                tight = [10 ** rng.uniform(-4.0, -1.0, periods) for _ in range(2)]
                ends["lower"][1][scarce] = tight[0][scarce]
                ends["upper"][0][scarce] = tight[1][scarce]
            found[coupling.name, quantity.name] = ends
    return found


def _program(
    rng: np.random.Generator,
    kind: str,
    name: str,
    couplings: tuple[admm.Coupling, ...],
    point: dict[tuple[str, str], np.ndarray],
    room: Room,
) -> QuadraticProgram:
    """Boundary values come first among the variables, private ones follow; all are bounded."""
    scale, price, values, below, above, boundary, size = [], [], [], [], [], {}, 0
    for coupling in couplings:
        if name not in (coupling.lower, coupling.upper):
            continue
        end = "lower" if coupling.lower == name else "upper"
        for quantity in coupling.quantities:
            key, periods = (coupling.name, quantity.name), quantity.periods
            boundary[key] = np.arange(size, size + periods)
            size += periods
            scale.append(np.full(periods, quantity.scale))
            price.append(np.full(periods, quantity.price_scale))
            values.append(point[key])
            below.append(room[key][end][0] * quantity.scale)
            above.append(room[key][end][1] * quantity.scale)
    private = int(rng.integers(0, 5))
    own = np.full(private, float(rng.choice(np.concatenate(scale))))
    scale, price = np.concatenate([*scale, own]), np.concatenate([*price, WORTH_EUR / own])
    values = np.concatenate([*values, own * rng.uniform(-1.0, 1.0, private)])
    below = np.concatenate([*below, own * rng.uniform(0.1, FAR, private)])
    above = np.concatenate([*above, own * rng.uniform(0.1, FAR, private)])
    P, q = _cost(rng, kind, scale, price)
    rows, lower, upper = _rows(rng, kind, scale, values)
    A = sp.csc_matrix(np.vstack([rows, np.eye(scale.size)]))
    ends = np.concatenate([lower, values - below]), np.concatenate([upper, values + above])
    return QuadraticProgram(P, q, A, *ends, boundary=boundary, name=name)


def _cost(
    rng: np.random.Generator, kind: str, scale: np.ndarray, price: np.ndarray
) -> tuple[sp.csc_matrix, np.ndarray]:
    """Curvature and slope such that prices of the order of the price scale come out."""
    n = scale.size
    if kind in ("zero", "wild") and rng.random() < 0.4:
        return sp.csc_matrix((n, n)), np.zeros(n)
    slope = price * rng.uniform(-2.0, 2.0, n) * (rng.random(n) < 0.8)
    if kind in ("scarce", "wild"):
        slope[int(rng.integers(0, n))] *= rng.uniform(10.0, 100.0)
    if kind == "lp" or rng.random() < 0.2:
        return sp.csc_matrix((n, n)), slope
    rank = n if rng.random() < 0.5 else max(1, n // 2)
    root = rng.standard_normal((rank, n)) * (rng.random((rank, n)) < 0.5) * np.sqrt(price / scale)
    return sp.csc_matrix(10 ** rng.uniform(-2.0, 0.5) * root.T @ root), slope


def _rows(rng: np.random.Generator, kind: str, scale: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows with several entries that hold at the point: equalities among them, and with little room where scarce."""
    count = int(rng.integers(1, max(2, scale.size // 2 + 1)))
    rows = rng.standard_normal((count, scale.size)) * (rng.random((count, scale.size)) < 0.5) / scale
    least = (-4.0, -2.0) if kind in ("scarce", "wild") else (-1.5, 0.5)
    below, above = (10 ** rng.uniform(*least, count) for _ in range(2))
    equal = rng.random(count) < 0.2
    below[equal] = above[equal] = 0.0
    unit = float(np.median(scale))
    return rows * unit, (rows @ values - below) * unit, (rows @ values + above) * unit


def stacked(problem: RandomProblem) -> tuple[sp.csc_matrix, np.ndarray, sp.csc_matrix, np.ndarray, np.ndarray]:
    """P, q, A, l, u of the whole as one QP, with both ends of every coupling tied: for solvers that know no agents."""
    start, size = {}, 0
    for name, program in problem.programs.items():
        start[name] = size
        size += program.size
    P = sp.block_diag([one.P for one in problem.programs.values()], format="csc")
    q = np.concatenate([one.q for one in problem.programs.values()])
    A = sp.block_diag([one.A for one in problem.programs.values()], format="csc")
    low = np.concatenate([one.l for one in problem.programs.values()])
    up = np.concatenate([one.u for one in problem.programs.values()])
    ties = []
    for coupling in problem.couplings:
        for quantity in coupling.quantities:
            key = coupling.name, quantity.name
            ends = (start[end] + problem.programs[end].boundary[key] for end in (coupling.lower, coupling.upper))
            for one, other in zip(*ends, strict=True):
                tie = np.zeros(size)
                tie[one], tie[other] = 1.0 / quantity.scale, -1.0 / quantity.scale
                ties.append(tie)
    zero = np.zeros(len(ties))
    rows = sp.vstack([A, sp.csc_matrix(np.array(ties))], format="csc")
    return P, q, rows, np.concatenate([low, zero]), np.concatenate([up, zero])
