"""The points that agents' limits allow and that come nearest to an agreement: a phase 1 without costs.

Of every agent a few points that it can do are remembered. The mixes of them that lie nearest to an agreement,

    minimise  1/2 sum over entries of  weight * mismatch^2      over convex combinations of each agent's points

leave a mismatch whose direction is a price: where no agreement exists and the points are the right ones, it is the
normal of a plane between what the sides can do. Each agent is asked for the point of its limits nearest to one on the
way from its mix to the other side's, and for the best at the price; both join its points. The first are projections
that are averaged (Cimmino), the second corners as in Frank and Wolfe; the mixes make the most of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from admm.graph import entries_as_given
from admm.interfaces import Answer

if TYPE_CHECKING:
    from admm.run import Run

HALFWAY, HARDLY, FURTHER, FURTHEST = 0.5, 0.9, 4.0, 32.0
"""Of the way to the other side the first step; it is FURTHER where the norm of the mismatch falls to no less than
HARDLY of what it was: where sides touch at a flat angle, projections alone take many small steps."""
SMALLEST_SHARE = 1e-10
"""Share in a mix below which a point is forgotten."""
RIDGE = 1e-13
"""Share of the largest entry that is added to the diagonal: of points that coincide one mix is the best, too."""
LARGEST = 20_000_000
"""Numbers of a table of all agents' points up to which mixes are found: some 250 agents of 24 periods."""
OPTIMAL = 1e-9
"""Reduced cost, as a share of the largest, from which on another point betters a mix."""


class Nearest:
    """What is remembered of every agent, on the couplings as the user gave them.

    where: (n,), for each entry of the layout its entry here, the same for both halves of a relayed coupling. scale,
    price_scale: (m,). mismatch: (m,), lower less upper side's mix, in the entries' units.
    """

    def __init__(self, run: Run) -> None:
        self._layout = run.layout
        self.names = [name for name in run.layout.agents if name not in run.sides.relays]
        self.where = entries_as_given(run.layout)
        first = np.unique(self.where, return_index=True)[1]
        self.scale, self.price_scale = run.layout.scale[first], run.layout.price_scale[first]
        self._root = np.sqrt(self.price_scale / self.scale)
        self._at = {name: self.where[run.layout.entries(name)] for name in self.names}
        self._sign = {name: run.layout.boundary(name).sign for name in self.names}
        self._points: dict[str, list[np.ndarray]] = {name: [] for name in self.names}
        self._shares: dict[str, np.ndarray] = {name: np.zeros(0) for name in self.names}
        state = run.state
        self._step, self._norm = HALFWAY, np.inf
        self._mix = {name: self._latest(name, state.lower, state.upper) for name in self.names}
        self._sum_up()

    def _latest(self, name: str, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        at = self._layout.entries(name)
        return np.where(self._sign[name] > 0, lower[at], -upper[at])

    def _sum_up(self) -> None:
        self.mismatch = np.zeros(self.scale.size)
        for name, mix in self._mix.items():
            np.add.at(self.mismatch, self._at[name], mix)

    def wanted(self, name: str) -> np.ndarray:
        """From the agent's mix a step towards the other side's, (n of the agent,), in its units."""
        return self._sign[name] * (self._mix[name] - self._step * self.mismatch[self._at[name]])

    def weight(self, name: str) -> np.ndarray:
        """The penalty, (n of the agent,), that makes a mismatch count as it does here."""
        return self._root[self._at[name]] ** 2

    def price(self) -> np.ndarray:
        """The direction of the mismatch as a price, (n,), the largest one as large as its price scale."""
        price = self._root**2 * self.mismatch
        size = np.max(np.abs(price) / self.price_scale)
        return (price / size if size > 0 else price)[self.where]

    @property
    def too_large(self) -> bool:
        """Whether there are too many agents and entries to mix their points in memory and in time."""
        return 4 * len(self.names) * self.scale.size > LARGEST

    def agree(self, tolerance: float) -> bool:
        """Whether the mixes agree within the tolerance, a share of scale."""
        return bool(np.all(np.abs(self.mismatch) <= tolerance * self.scale))

    def take(self, answers: Mapping[str, Sequence[Answer]]) -> None:
        """Remember what agents can do, and mix it anew."""
        for name, given in answers.items():
            new = [self._sign[name] * answer.values for answer in given if answer.status.usable]
            self._points[name] += new
            self._shares[name] = np.append(self._shares[name], np.zeros(len(new)))
            if not self._shares[name].any():
                self._shares[name][:1] = 1.0
        self._mix_anew([name for name in self.names if self._points[name]])
        norm = float(np.linalg.norm(self._root * self.mismatch))
        if norm > HARDLY * self._norm:
            self._step = min(FURTHER * self._step, FURTHEST)
        self._norm = norm

    def _mix_anew(self, names: Sequence[str]) -> None:
        of_agent = np.repeat(np.arange(len(names)), [len(self._points[name]) for name in names])
        columns = np.zeros((self.scale.size, of_agent.size))
        for i, name in enumerate(names):
            columns[np.ix_(self._at[name], of_agent == i)] = np.transpose(self._points[name])
        shares = np.concatenate([self._shares[name] for name in names])
        shares = least_norm(self._root[:, None] * columns, of_agent, shares)
        for i, name in enumerate(names):
            own = shares[of_agent == i]
            self._mix[name] = np.transpose(self._points[name]) @ own
            kept = own > SMALLEST_SHARE
            self._points[name] = [point for point, keep in zip(self._points[name], kept, strict=True) if keep]
            self._shares[name] = own[kept] / own[kept].sum()
        self._sum_up()


def least_norm(columns: np.ndarray, of_agent: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Shares, (k,), of the columns, (m, k), that add up to 1 for each agent and make the norm of the sum least.

    of_agent: (k,), whose each column is. shares: (k,), where to begin. An active-set method, as Wolfe's (1976) for the
    nearest point of one polytope: the best mix of the columns in use, one column out where a share would fall below 0,
    each agent's best one in where it betters the mix.
    """
    agents = np.eye(of_agent[-1] + 1)[:, of_agent]
    columns = columns / max(float(np.abs(columns).max()), 1e-300)
    base = columns @ (agents / agents.sum(axis=1, keepdims=True)).sum(axis=0)
    apart = (
        columns - ((columns @ agents.T) / agents.sum(axis=1))[:, of_agent]
    )  # from the agent's middle: no digits lost
    gram, slope = apart.T @ apart, apart.T @ base
    gram[np.diag_indices_from(gram)] += RIDGE * max(float(np.abs(gram).max()), 1e-300)
    used = shares > 0
    for _ in range(10 * of_agent.size):
        best = _best_of(gram, slope, agents, used)
        falls = used & (best < 0)
        if falls.any():
            steps = shares[falls] / (shares[falls] - best[falls])
            shares = shares + steps.min() * (best - shares)
            out = np.flatnonzero(falls)[np.argmin(steps)]
            shares[out], used = 0.0, used & (np.arange(used.size) != out)
            continue
        shares = best
        entering = _entering(gram @ shares + slope, of_agent, agents, shares) & ~used
        if not entering.any():
            break
        used = used | entering
    shares = np.maximum(shares, 0.0)
    return shares / (agents @ shares)[of_agent]


def _entering(gradient: np.ndarray, of_agent: np.ndarray, agents: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(k,): of each agent the column that betters the mix most, where one does."""
    reduced = gradient - (agents @ (shares * gradient))[of_agent]
    least = np.full(agents.shape[0], np.inf)
    np.minimum.at(least, of_agent, reduced)
    return (reduced == least[of_agent]) & (reduced < -OPTIMAL * max(1e-300, float(np.abs(gradient).max())))


def _best_of(gram: np.ndarray, slope: np.ndarray, agents: np.ndarray, used: np.ndarray) -> np.ndarray:
    """The best shares, (k,), of the columns in use, of any sign, that add up to 1 for each agent."""
    at, count = np.flatnonzero(used), agents.shape[0]
    system = np.zeros((at.size + count, at.size + count))
    system[: at.size, : at.size] = gram[np.ix_(at, at)]
    system[at.size :, : at.size], system[: at.size, at.size :] = agents[:, at], agents[:, at].T
    found = np.zeros(used.size)
    found[at] = np.linalg.solve(system, np.concatenate([-slope[at], np.ones(count)]))[: at.size]
    return found
