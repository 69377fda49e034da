"""The default policy: a price-scaled start, then each quantity and at last each entry finds its own penalty."""

from __future__ import annotations

import numpy as np

from admm.couplings import Layout
from admm.penalty.policy import Observation, check_positive, relative_ratio, unit_penalty


class Adaptive:
    """Price-scaled start, quantity balancing, drift balancing, then frozen.

    Quantity balancing (iterations 3, 6, 9, 12): a quantity whose relative mismatch and relative dual
    step differ by more than three is moved by the square root of their ratio (after Wohlberg 2017).
    Drift balancing (every six iterations from 18): an entry whose mismatch keeps one sign while its
    price creeps gets twice the penalty, in the other case half, within 1/64 .. 64 of its start.
    After `max_changes` drift rounds the penalty stays, as the theory of varying penalties asks.
    """

    name = "adaptive"
    START = 0.4
    QUANTITY_EVERY, QUANTITY_UNTIL, QUANTITY_BAND = 3, 12, 3.0
    DRIFT_EVERY, DRIFT_RATIO, DRIFT_FLOOR, DRIFT_SPAN = 6, 3.0, 3e-4, 64.0

    def __init__(self, start: float = START, max_changes: int = 50) -> None:
        check_positive(self.name, start=start, max_changes=max_changes)
        self.start_per_unit, self.max_changes = start, max_changes

    def start(self, layout: Layout) -> np.ndarray:
        self._groups = list(layout.quantity_groups().values())
        self._anchor = self.start_per_unit * unit_penalty(layout)
        self._changes = 0
        self._forget(layout.size)
        return self._anchor.copy()

    def _forget(self, size: int) -> None:
        self._mismatch_sum, self._step_sum, self._seen = np.zeros(size), np.zeros(size), 0

    def update(self, penalty: np.ndarray, seen: Observation) -> np.ndarray:
        if seen.iteration <= self.QUANTITY_UNTIL:
            due = seen.iteration % self.QUANTITY_EVERY == 0
            return self._balance_quantities(penalty, seen) if due else penalty
        self._mismatch_sum += seen.mismatch
        self._step_sum += seen.dual_step
        self._seen += 1
        if self._seen < self.DRIFT_EVERY or self._changes >= self.max_changes:
            return penalty
        return self._balance_drift(penalty)

    def _balance_quantities(self, penalty: np.ndarray, seen: Observation) -> np.ndarray:
        changed = penalty.copy()
        for at in self._groups:
            ratio = relative_ratio(seen, at)
            if ratio is not None and not 1 / self.QUANTITY_BAND <= ratio <= self.QUANTITY_BAND:
                changed[at] *= np.clip(np.sqrt(ratio), 0.1, 10.0)
        self._anchor = changed.copy()
        return changed

    def _balance_drift(self, penalty: np.ndarray) -> np.ndarray:
        primal, dual = np.abs(self._mismatch_sum) / self._seen, np.abs(self._step_sum) / self._seen
        factor = np.ones_like(penalty)
        factor[(primal > self.DRIFT_RATIO * dual) & (primal > self.DRIFT_FLOOR)] = 2.0
        factor[(dual > self.DRIFT_RATIO * primal) & (dual > self.DRIFT_FLOOR)] = 0.5
        self._forget(penalty.size)
        self._changes += 1
        changed = np.clip(penalty * factor, self._anchor / self.DRIFT_SPAN, self._anchor * self.DRIFT_SPAN)
        return penalty if np.array_equal(changed, penalty) else changed
