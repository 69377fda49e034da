"""Small problems whose optimum is known by hand; solved in-process and over MPI by the same tests.

An agent of a problem is a function that makes it, so that each rank makes only what it owns.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import admm
from subproblems import Builder, QPAgent

TIGHT = {
    "consensus_tolerance": 1e-7,
    "optimality_tolerance": 1e-7,
    "absolute_tolerance": 1e-8,
    "relative_tolerance": 0.0,
    "final_accuracy": 1e-9,
    "max_iterations": 3000,
}


class Parabola:
    """Cost 1/2 sum(weight * (b - target)^2), with the closed-form answer."""

    def __init__(self, weight: float, target: list[float], seconds: float = 0.0) -> None:
        self.weight, self.target, self.seconds = weight, np.array(target, dtype=float), seconds

    def prepare(self, boundary: admm.AgentBoundary) -> None:
        if boundary.size != self.target.size:
            raise admm.InputError(f"parabola: {self.target.size} targets, expected {boundary.size}")

    def answer(self, question: admm.Question) -> admm.Answer:
        time.sleep(self.seconds)
        pull = self.weight * self.target - question.price + question.penalty * question.reference
        self.value = pull / (self.weight + question.penalty)
        cost = 0.5 * self.weight * float(np.sum((self.value - self.target) ** 2))
        return admm.Answer(values=self.value, cost_eur=cost)

    def solution(self) -> np.ndarray:
        return self.value


@dataclass(frozen=True)
class Problem:
    """agents: {name: function that makes it}. value, price: {coupling: optimum (periods,)}, where known by hand."""

    agents: dict[str, Callable[[], admm.Agent]]
    couplings: list[admm.Coupling]
    settings: dict
    objective: float
    value: dict[str, np.ndarray] = field(default_factory=dict)
    price: dict[str, np.ndarray] = field(default_factory=dict)

    def solve(self, **changes: object) -> admm.Result:
        agents = {name: make() for name, make in self.agents.items()}
        return admm.solve(agents, self.couplings, admm.Settings(**{**self.settings, **changes}))


def coupling(name: str, lower: str, upper: str, periods: int = 1, **scales: float) -> admm.Coupling:
    return admm.Coupling(name, lower, upper, [admm.Quantity("p_mw", periods, **scales)])


def pair(weights: tuple[float, float] = (2.0, 6.0)) -> Problem:
    """Two parabolas at 3 and 1 (and at -1 and 5): the weighted mean, and the slope there as the price."""
    (w, v), low, up = weights, np.array([3.0, -1.0]), np.array([1.0, 5.0])
    value = (w * low + v * up) / (w + v)
    cost = 0.5 * w * np.sum((value - low) ** 2) + 0.5 * v * np.sum((value - up) ** 2)
    return Problem(
        {"low": lambda: Parabola(w, [3.0, -1.0]), "up": lambda: Parabola(v, [1.0, 5.0])},
        [coupling("low-up", "low", "up", periods=2, scale=2.0, price_scale=5.0)],
        TIGHT,
        objective=float(cost),
        value={"low-up": value},
        price={"low-up": w * (low - value)},
    )


STAR_WEIGHT, STAR_TARGET = np.array([2.0, 4.0, 8.0]), np.array([2.5, 3.0, 2.0])
STAR_COST, STAR_SLOPE = 1.5, 0.5


def supplier() -> QPAgent:
    """Sells to three: STAR_COST * total + 1/2 STAR_SLOPE * total^2."""
    builder = Builder("supplier")
    total = builder.variable("total.p_mw", 1, unit="MW")
    sold = [builder.variable(f"{name}.p_mw", 1, unit="MW") for name in "abc"]
    builder.rows("balance", [(total, 1.0), *((block, -1.0) for block in sold)], 0.0, 0.0)
    builder.cost(total, linear=STAR_COST, quadratic=0.5 * STAR_SLOPE)
    for name, block in zip("abc", sold, strict=True):
        builder.boundary(f"{name}-s", "p_mw", block)
    return QPAgent(builder.build())


def consumer(name: str, weight: float, target: float, most: float) -> QPAgent:
    """Wants `target`, takes at most `most`."""
    builder = Builder(name)
    taken = builder.variable("load.p_mw", 1, lower=0.0, upper=most, unit="MW")
    builder.cost_of_deviation(taken, 0.5 * weight, target)
    builder.boundary(f"{name}-s", "p_mw", taken)
    return QPAgent(builder.build())


def star() -> Problem:
    """Three consumers and a supplier: price = cost + slope * total; "b" is held at its limit of 1.

    With b fixed at 1: total = 1 + sum over a, c of (target - price / weight), price = cost + slope * total.
    """
    w, t = STAR_WEIGHT[[0, 2]], STAR_TARGET[[0, 2]]
    price = (STAR_COST + STAR_SLOPE * (1.0 + t.sum())) / (1.0 + STAR_SLOPE * np.sum(1.0 / w))
    a, c = t - price / w
    total = a + 1.0 + c
    cost = STAR_COST * total + 0.5 * STAR_SLOPE * total**2
    cost += 0.5 * STAR_WEIGHT @ (np.array([a, 1.0, c]) - STAR_TARGET) ** 2
    make = lambda i, most: lambda: consumer("abc"[i], STAR_WEIGHT[i], STAR_TARGET[i], most)  # noqa: E731
    return Problem(
        {"a": make(0, 9.0), "b": make(1, 1.0), "c": make(2, 9.0), "s": supplier},
        [coupling(f"{name}-s", name, "s", price_scale=4.0) for name in "abc"],
        TIGHT,
        objective=float(cost),
        value={"a-s": np.array([a]), "b-s": np.array([1.0]), "c-s": np.array([c])},
        price={f"{name}-s": np.array([price]) for name in "abc"},
    )


def triangle() -> Problem:
    """Three parabolas, each pair coupled: an odd cycle, so one coupling is relayed. Each coupling by itself."""
    weight = {"a": 1.0, "b": 3.0, "c": 5.0}
    target = {"a": [1.0, 4.0], "b": [2.0, -3.0], "c": [7.0, 0.0]}
    ends = {"ab": ("a", 0, "b", 0), "bc": ("b", 1, "c", 0), "ca": ("c", 1, "a", 1)}
    value, price, cost = {}, {}, 0.0
    for name, (low, i, up, j) in ends.items():
        w, v, s, t = weight[low], weight[up], target[low][i], target[up][j]
        best = (w * s + v * t) / (w + v)
        value[name], price[name] = np.array([best]), np.array([w * (s - best)])
        cost += 0.5 * w * (best - s) ** 2 + 0.5 * v * (best - t) ** 2
    make = lambda name: lambda: Parabola(weight[name], target[name])  # noqa: E731
    return Problem(
        {name: make(name) for name in weight},
        [coupling(name, low, up, price_scale=5.0) for name, (low, _, up, _) in ends.items()],
        TIGHT,
        objective=cost,
        value=value,
        price=price,
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {"pair": pair, "star": star, "triangle": triangle}
