"""Spectral penalties: from the curvature of both sides' costs as their answers and prices show it.

-half price is a slope of the first side's cost at y, price one of the second side's at z.
Between two iterations:  alpha ~ |d half price| / |d y|,  beta ~ |d price| / |d z|;  penalty = sqrt(alpha beta)
"""

from __future__ import annotations

import numpy as np

from admm.couplings import Layout
from admm.graph import split
from admm.penalty.policy import NOTHING, Observation, check_positive, unit_penalty


class Spectral:
    """One penalty for all entries, in scaled units.

    Xu, Figueiredo, Goldstein (2017), "Adaptive ADMM with spectral penalty parameter selection", algorithm 1:
    every 2 iterations, estimates that correlate by less than 0.2 are not used. The growth of a step is held
    to 1 + constant / k^2 as in Xu et al. (2017), "Adaptive consensus ADMM", eq. 22, and to within 1e-3 .. 1e3
    of the start; after `max_changes` it stays.
    """

    name = "spectral"
    EVERY, LEAST_CORRELATION, GROWTH, SPAN = 2, 0.2, 1e10, 1e3

    def __init__(self, start: float = 1.0, max_changes: int = 50) -> None:
        check_positive(self.name, start=start, max_changes=max_changes)
        self.start_per_unit, self.max_changes = start, max_changes

    def start(self, layout: Layout) -> np.ndarray:
        self._changes, self._before = 0, None
        self._groups = self.groups(layout)
        self._unit = unit_penalty(layout)
        return self.start_per_unit * self._unit

    def groups(self, layout: Layout) -> list[np.ndarray]:
        """Positions of entries that share a penalty."""
        return [np.arange(layout.size)]

    def update(self, penalty: np.ndarray, seen: Observation) -> np.ndarray:
        if seen.iteration % self.EVERY != 1 or self._changes >= self.max_changes:
            return penalty
        before, self._before = self._before, seen
        if before is None:
            return penalty
        changed = penalty.copy()
        for at in self._groups:
            now = float(penalty[at[0]] / self._unit[at[0]])
            changed[at] = self._safe(self._estimate(before, seen, at), now, seen.iteration) * self._unit[at]
        if np.allclose(changed, penalty, rtol=NOTHING, atol=0.0):
            return penalty
        self._changes += 1
        return changed

    def _estimate(self, before: Observation, seen: Observation, at: np.ndarray) -> float | None:
        """sqrt(alpha beta), or the one of them that can be trusted, or None."""
        first = curvature(seen.first - before.first, seen.side * (before.half_price - seen.half_price), at)
        second = curvature(seen.second - before.second, seen.side * (seen.price - before.price), at)
        trusted = [value for value, correlation in (first, second) if correlation > self.LEAST_CORRELATION]
        return float(np.prod(trusted) ** (1 / len(trusted))) if trusted else None

    def _safe(self, estimate: float | None, now: float, iteration: int) -> float:
        if estimate is None:
            return now
        most = 1.0 + self.GROWTH / iteration**2
        within = np.clip(estimate, now / most, now * most)
        return float(np.clip(within, self.start_per_unit / self.SPAN, self.start_per_unit * self.SPAN))


class SpectralPerAgent(Spectral):
    """One penalty for each agent of the first side, from its own answers and the price that it sees.

    Xu, Taylor, Li, Figueiredo, Yuan, Goldstein (2017), "Adaptive consensus ADMM for distributed optimization",
    algorithm 1, with the same safeguards.
    """

    name = "spectral-per-agent"

    def groups(self, layout: Layout) -> list[np.ndarray]:
        return [layout.entries(name) for name in split(layout.couplings).first]


def curvature(change: np.ndarray, slope_change: np.ndarray, at: np.ndarray) -> tuple[float, float]:
    """Curvature of a cost and how far to trust it, from a change of values and one of slopes (Xu et al., eq. 20).

    steepest = s's / x's, least = x's / x'x; least where 2 least > steepest, else steepest - least / 2.
    The trust is the correlation x's / (|x| |s|); 0 where there is nothing to compare.
    """
    x, s = change[at], slope_change[at]
    sizes, inner = float(np.linalg.norm(x) * np.linalg.norm(s)), float(x @ s)
    if min(np.linalg.norm(x), np.linalg.norm(s)) <= NOTHING or inner <= 0:
        return 1.0, 0.0
    steepest, least = float(s @ s) / inner, inner / float(x @ x)
    return (least if 2 * least > steepest else steepest - least / 2), inner / sizes
