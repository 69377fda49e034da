"""Penalty policies: how the diagonal penalty starts and when it changes. One class each.

A policy keeps what it needs between iterations; `start` resets it, so one object serves many runs.
All arrays have shape (n,) over the layout's entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from admm.couplings import Layout
from admm.errors import InputError


@dataclass(frozen=True)
class Observation:
    """What a policy sees after an iteration, all in scaled units, shape (n,).

    mismatch: (lower - upper) / scale. dual_step: penalty * change of the second side / price_scale.
    lower, upper: values / scale. price: price / price_scale.
    """

    iteration: int
    mismatch: np.ndarray
    dual_step: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    price: np.ndarray


class PenaltyPolicy(Protocol):
    """What the engine asks of a policy."""

    name: str

    def start(self, layout: Layout) -> np.ndarray:
        """The first penalty, shape (n,), EUR per unit squared and period."""

    def update(self, penalty: np.ndarray, seen: Observation) -> np.ndarray:
        """The next penalty: the same array if nothing changes. Must stop changing it after finitely many."""


def unit_penalty(layout: Layout) -> np.ndarray:
    """price_scale / scale, shape (n,): the penalty that counts as 1 per unit."""
    return layout.price_scale / layout.scale


class Classical:
    """A fixed penalty: `per_unit` in scaled units, or `raw` in EUR per unit squared and period."""

    name = "classical"

    def __init__(self, per_unit: float = 1.0, raw: float | None = None) -> None:
        for key, value in (("per_unit", per_unit), ("raw", raw)):
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InputError(f"penalty 'classical': {key} is {value!r}, expected a finite number above 0")
        self.per_unit, self.raw = per_unit, raw

    def start(self, layout: Layout) -> np.ndarray:
        if self.raw is not None:
            return np.full(layout.size, float(self.raw))
        return self.per_unit * unit_penalty(layout)

    def update(self, penalty: np.ndarray, seen: Observation) -> np.ndarray:
        return penalty


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
        if not (np.isfinite(start) and start > 0):
            raise InputError(f"penalty 'adaptive': start is {start!r}, expected a finite number above 0")
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


def relative_ratio(seen: Observation, at: np.ndarray) -> float | None:
    """Relative mismatch over relative dual step of some entries; None where one of them is zero."""
    mismatch, step = np.linalg.norm(seen.mismatch[at]), np.linalg.norm(seen.dual_step[at])
    size = max(np.linalg.norm(seen.lower[at]), np.linalg.norm(seen.upper[at]))
    price = np.linalg.norm(seen.price[at])
    if min(mismatch, step, size, price) <= 1e-12:
        return None
    return float((mismatch / size) / (step / price))


POLICIES = {"adaptive": Adaptive, "classical": Classical}
"""Policies that can be asked for by name."""


def policy_for(penalty: Any) -> PenaltyPolicy:
    """The policy object for a name such as "adaptive" or "classical:0.1", or the given object itself."""
    if not isinstance(penalty, str):
        verbs = all(callable(getattr(penalty, verb, None)) for verb in ("start", "update"))
        if verbs and not isinstance(penalty, type):
            return penalty
        raise InputError(f"settings: penalty is {penalty!r}, expected a name or an object with start and update")
    name, _, parameter = penalty.partition(":")
    if name not in POLICIES:
        raise InputError(f"settings: penalty is '{penalty}', expected one of {', '.join(sorted(POLICIES))}")
    if not parameter:
        return POLICIES[name]()
    try:
        return POLICIES[name](float(parameter))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"settings: penalty is '{penalty}', expected a number after '{name}:'") from None
