"""Residual balancing: raise the penalty while the mismatch is the larger residual, lower it while the dual step is.

Boyd et al. (2011), section 3.4.1, call it varying the penalty; the theory asks that it stops, so it does after
`max_changes`. Residuals are in scaled units, so that quantities of different units count alike.
"""

from __future__ import annotations

import numpy as np

from admm.couplings import Layout
from admm.penalty.policy import Observation, check_positive, relative_ratio, unit_penalty

MAX_CHANGES = 50


class ResidualBalancing:
    """penalty *= tau where |mismatch| > mu |dual step|, /= tau where |dual step| > mu |mismatch|.

    He, Yang, Wang (2000), "Alternating direction method with self-adaptive penalty parameters for monotone
    variational inequalities", eq. 3.11; mu = 10, tau = 2 as in Boyd et al. (2011), eq. 3.13.
    """

    name = "residual"
    MU, TAU = 10.0, 2.0

    def __init__(self, start: float = 1.0, max_changes: int = MAX_CHANGES) -> None:
        check_positive(self.name, start=start, max_changes=max_changes)
        self.start_per_unit, self.max_changes = start, max_changes

    def start(self, layout: Layout) -> np.ndarray:
        self._changes = 0
        self._groups = self.groups(layout)
        return self.start_per_unit * unit_penalty(layout)

    def groups(self, layout: Layout) -> list[np.ndarray]:
        """Positions of entries that are balanced together."""
        return [np.arange(layout.size)]

    def update(self, penalty: np.ndarray, seen: Observation) -> np.ndarray:
        if self._changes >= self.max_changes:
            return penalty
        changed = penalty.copy()
        for at in self._groups:
            changed[at] *= self.factor(seen, at)
        if np.array_equal(changed, penalty):
            return penalty
        self._changes += 1
        return changed

    def factor(self, seen: Observation, at: np.ndarray) -> float:
        mismatch, step = np.linalg.norm(seen.mismatch[at]), np.linalg.norm(seen.dual_step[at])
        if mismatch > self.MU * step:
            return self.TAU
        return 1.0 / self.TAU if step > self.MU * mismatch else 1.0


class NormalisedBalancing(ResidualBalancing):
    """The same on relative residuals, by a factor that follows from them.

    ratio = [|y - z| / max(|y|, |z|)] / [|D dz| / |price|];  factor = clip(sqrt(ratio), 1/tau, tau) outside [1/mu, mu]
    Wohlberg (2017), "ADMM penalty parameter selection by residual balancing", sections 4 and 5: mu = 10, with
    tau = sqrt(ratio) at most tau_max, here 10.
    """

    name = "normalised"
    TAU_MAX = 10.0

    def factor(self, seen: Observation, at: np.ndarray) -> float:
        ratio = relative_ratio(seen, at)
        if ratio is None or 1.0 / self.MU <= ratio <= self.MU:
            return 1.0
        return float(np.clip(np.sqrt(ratio), 1.0 / self.TAU_MAX, self.TAU_MAX))


class NormalisedPerQuantity(NormalisedBalancing):
    """Normalised residual balancing of each boundary quantity by itself."""

    name = "normalised-per-quantity"

    def groups(self, layout: Layout) -> list[np.ndarray]:
        return list(layout.quantity_groups().values())
