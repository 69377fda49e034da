"""The default policy: a price-scaled start, then quantities, what is missing and drifting entries are balanced."""

from __future__ import annotations

import numpy as np

from admm.couplings import Layout
from admm.penalty.policy import Observation, check_positive, relative_ratio, unit_penalty


class Adaptive:
    """Price-scaled start, quantity balancing, sharpening, drift balancing, then frozen.

    Quantity balancing (iterations 3, 6, 9, 12): a quantity whose relative mismatch and relative dual step differ by
    more than three is moved by the square root of their ratio (after Wohlberg 2017).
    Sharpening (from 13): where the estimated objective error has come within ten times its tolerance and a quantity's
    largest mismatch has not met its own for three iterations, that quantity gets twice the penalty: costs are
    nearly right, so what is missing is agreement. Not while the dual residual is above twice its tolerance.
    Drift balancing (every six iterations from 18): an entry whose mismatch keeps one sign while its price creeps gets
    twice the penalty, in the other case half.
    Both stay within 1/64 .. 64 of where quantity balancing ended. After `max_changes` changes the penalty stays, as the
    theory of varying penalties asks. A penalty that a run starts with in place of this policy's own is taken for a
    balanced one. No price moves by more than its price scale in one iteration: a penalty that starts far too high would
    throw prices so far that it takes long to come back.
    start: per unit, or raw where `price_scaled` is false; each ingredient can be left out.
    """

    name = "adaptive"
    START = 0.4
    most_price_move = 1.0

    def __init__(
        self,
        start: float = START,
        max_changes: int = 50,
        price_scaled: bool = True,
        balance_quantities: bool = True,
        sharpen: bool = True,
        balance_drift: bool = True,
    ) -> None:
        check_positive(self.name, start=start, max_changes=max_changes)
        self.start_per_unit, self.max_changes, self.price_scaled = start, max_changes, price_scaled
        self.balance_quantities, self.sharpen, self.balance_drift = balance_quantities, sharpen, balance_drift

    def start(self, layout: Layout) -> np.ndarray:
        self._groups = list(layout.quantity_groups().values())
        self._first = self.start_per_unit * (unit_penalty(layout) if self.price_scaled else np.ones(layout.size))
        self._anchor, self._changes, self._balanced = self._first.copy(), 0, False
        self._quantities = _Quantities(self._groups)
        self._late = [rule for rule, used in ((_Sharpening, self.sharpen), (_Drift, self.balance_drift)) if used]
        self._begin_window()
        return self._first.copy()

    def _begin_window(self) -> None:
        self._rules = [rule(self._groups) for rule in self._late]

    def update(self, penalty: np.ndarray, seen: Observation) -> np.ndarray:
        if seen.iteration == 1:
            self._anchor, self._balanced = penalty.copy(), not np.array_equal(penalty, self._first)
        if seen.iteration <= _Quantities.UNTIL:
            if not self.balance_quantities or self._balanced:
                return penalty
            factor = self._quantities.factor(seen)
            self._anchor = penalty * factor
            return penalty if np.all(factor == 1.0) else self._anchor.copy()
        return self._update_late(penalty, seen)

    def _update_late(self, penalty: np.ndarray, seen: Observation) -> np.ndarray:
        factors = [rule.factor(seen) for rule in self._rules]
        moved = next((factor for factor in factors if factor is not None), None)
        if moved is None or self._changes >= self.max_changes:
            return penalty
        self._begin_window()
        self._changes += 1
        changed = np.clip(penalty * moved, self._anchor / SPAN, self._anchor * SPAN)
        return penalty if np.array_equal(changed, penalty) else changed


SPAN = 64.0
"""How far a penalty may move from where quantity balancing ended."""


class _Quantities:
    """Balances each quantity's relative mismatch and dual step, every third iteration."""

    EVERY, UNTIL, BAND, MOST = 3, 12, 3.0, 10.0

    def __init__(self, groups: list[np.ndarray]) -> None:
        self._groups = groups

    def factor(self, seen: Observation) -> np.ndarray:
        """By what to multiply the penalty, shape (n,)."""
        factor = np.ones_like(seen.mismatch)
        for at in self._groups if seen.iteration % self.EVERY == 0 else ():
            ratio = relative_ratio(seen, at)
            if ratio is not None and not 1 / self.BAND <= ratio <= self.BAND:
                factor[at] = np.clip(np.sqrt(ratio), 1 / self.MOST, self.MOST)
        return factor


class _Sharpening:
    """Over a window: which quantities lack nothing but agreement."""

    LENGTH, BY, BELOW, DUAL = 3, 2.0, 10.0, 2.0

    def __init__(self, groups: list[np.ndarray]) -> None:
        self._groups = groups
        self._mismatch: list[list[float]] = []
        self._error: list[float] = []
        self._dual: list[float] = []

    def factor(self, seen: Observation) -> np.ndarray | None:
        """By what to multiply the penalty, shape (n,); None where nothing is to be done."""
        self._mismatch = [*self._mismatch, [np.abs(seen.mismatch[at]).max() for at in self._groups]][-self.LENGTH :]
        self._error = [*self._error, seen.objective_error][-self.LENGTH :]
        self._dual = [*self._dual, seen.dual_share][-self.LENGTH :]
        cheap = max(self._error) <= self.BELOW * seen.optimality_tolerance and max(self._dual) <= self.DUAL
        if len(self._error) < self.LENGTH or not cheap:
            return None
        apart = np.min(self._mismatch, axis=0) > seen.consensus_tolerance
        if not apart.any():
            return None
        factor = np.ones_like(seen.mismatch)
        for at, missing in zip(self._groups, apart, strict=True):
            factor[at] = self.BY if missing else 1.0
        return factor


class _Drift:
    """Over a window: entries whose mismatch, or whose dual step, keeps its sign."""

    LENGTH, RATIO, FLOOR, BY = 6, 3.0, 3e-4, 2.0

    def __init__(self, groups: list[np.ndarray]) -> None:
        self._mismatch, self._step, self._seen = 0.0, 0.0, 0

    def factor(self, seen: Observation) -> np.ndarray | None:
        """By what to multiply the penalty, shape (n,), once in a window; None between."""
        self._mismatch, self._step = self._mismatch + seen.mismatch, self._step + seen.dual_step
        self._seen += 1
        if self._seen < self.LENGTH:
            return None
        primal, dual = np.abs(self._mismatch) / self._seen, np.abs(self._step) / self._seen
        factor = np.ones_like(primal)
        factor[(primal > self.RATIO * dual) & (primal > self.FLOOR)] = self.BY
        factor[(dual > self.RATIO * primal) & (dual > self.FLOOR)] = 1 / self.BY
        return factor
