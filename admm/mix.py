"""The best plan that mixes of remembered answers make, and the price that goes with it.

Every answer of an agent is a point of its own feasible set, and so is every convex combination of its answers, at no
more than that combination of their costs. The cheapest combinations that agree are a plan of the whole; its multipliers
are the price that the answers so far speak for (Dantzig and Wolfe 1960, "Decomposition principle for linear programs").
Far from the answers such a price means little, so it may be held in a box around another one (Marsten, Hogan and
Blankenship 1975, "The boxstep method for large-scale optimization"): a mismatch costs what the box allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from admm.couplings import Layout
from admm.graph import entries_as_given
from admm.values import is_finite

MOST = 300
"""Answers of an agent that are remembered, the latest ones."""


def is_line(value: Any, size: int) -> bool:
    """Whether a value is an array (size,) of finite numbers."""
    return isinstance(value, np.ndarray) and value.shape == (size,) and bool(np.isfinite(value).all())


class Mix(NamedTuple):
    """Entries are those of the layout. plan: (n,), the mixes' values, in the unit; on both halves of a relayed coupling
    the same. price: (n,), the multipliers, EUR per unit. cost_eur: of the mixes and of what they miss. apart: the
    largest mismatch, as a share of scale."""

    plan: np.ndarray
    price: np.ndarray
    cost_eur: float
    apart: float


class Mixes:
    """Answers by agent. values: {agent: [(k,), in the unit]}; cost_eur: {agent: [EUR]}."""

    KEPT = ("values", "cost_eur")

    def __init__(self, layout: Layout, names: Sequence[str]) -> None:
        self._layout, self._names = layout, list(names)
        self._where = entries_as_given(layout)
        first = np.unique(self._where, return_index=True)[1]
        self._scale, self._price_scale = layout.scale[first], layout.price_scale[first]
        self._at = {name: self._where[layout.entries(name)] for name in self._names}
        self.values: dict[str, list[np.ndarray]] = {name: [] for name in self._names}
        self.cost_eur: dict[str, list[float]] = {name: [] for name in self._names}

    def check_kept(self, kept: Mapping[str, Any]) -> None:
        """Raise ValueError where a snapshot is none of these answers."""
        for name in self._names:
            values, costs = (kept[key].get(name) for key in self.KEPT)
            lines = isinstance(values, list) and all(is_line(one, self._at[name].size) for one in values)
            if not lines or not isinstance(costs, list) or len(costs) != len(values) or not all(map(is_finite, costs)):
                raise ValueError(f"what is remembered of agent '{name}' makes no sense")

    def add(self, name: str, values: np.ndarray, cost_eur: float) -> None:
        self.values[name] = [*self.values[name], np.array(values, dtype=float)][-MOST:]
        self.cost_eur[name] = [*self.cost_eur[name], float(cost_eur)][-MOST:]

    def best(self, price: np.ndarray, leeway: float) -> Mix | None:
        """Find the cheapest mixes.

        price: (n,), the middle of the box, the same on both halves of a relayed coupling. leeway: half its width, in
        price scales. None where an agent has no answer yet, or the solver gave up.
        """
        from scipy.optimize import linprog

        if not all(self.values[name] for name in self._names):
            return None
        size, middle = self._scale.size, self._as_given(price) * self._scale
        width = leeway * self._price_scale * self._scale
        ties, ones, costs = self._columns()
        rows = np.vstack([np.hstack([ties, np.eye(size), -np.eye(size)]), np.pad(ones, ((0, 0), (0, 2 * size)))])
        right = np.concatenate([np.zeros(size), np.ones(len(self._names))])
        missed = np.concatenate([width - middle, width + middle])
        found = linprog(np.concatenate([costs, missed]), A_eq=rows, b_eq=right, bounds=(0, None), method="highs")
        if not found.success:
            return None
        shares, apart = found.x[: costs.size], np.abs(found.x[costs.size :]).max(initial=0.0)
        price = -found.eqlin.marginals[:size] / self._scale
        return Mix(self._mixed(shares)[self._where], price[self._where], float(found.fun), float(apart))

    def _as_given(self, values: np.ndarray) -> np.ndarray:
        """(m,) over the couplings as given, of (n,) over the layout."""
        given = np.zeros(self._scale.size)
        given[self._where] = values
        return given

    def _columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What each answer adds to the mismatches, in scales, (m, k); whose it is, (agents, k); and costs, (k,)."""
        ties, ones = [], []
        for i, name in enumerate(self._names):
            here = np.zeros((self._scale.size, len(self.values[name])))
            signed = self._layout.boundary(name).sign * np.array(self.values[name]) / self._scale[self._at[name]]
            here[self._at[name]] = signed.T
            ties.append(here)
            ones.append(np.eye(len(self._names))[:, [i] * here.shape[1]])
        return np.hstack(ties), np.hstack(ones), np.concatenate([self.cost_eur[name] for name in self._names])

    def _mixed(self, shares: np.ndarray) -> np.ndarray:
        """The mixes' values, (m,), at the mean of both ends."""
        total, ends, used = np.zeros(self._scale.size), np.zeros(self._scale.size), 0
        for name in self._names:
            own = shares[used : used + len(self.values[name])]
            used += own.size
            np.add.at(total, self._at[name], own @ np.array(self.values[name]))
            np.add.at(ends, self._at[name], 1.0)
        return total / ends
