"""What a penalty policy is, what it sees, and the units in which it thinks.

A policy keeps what it needs between iterations; `start` resets it, so one object serves many runs.
All arrays have shape (n,) over the layout's entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from admm.couplings import Layout
from admm.errors import InputError

NOTHING = 1e-12
"""Norms in scaled units below which there is nothing to compare."""


@dataclass(frozen=True)
class Observation:
    """What a policy sees after an iteration, all in scaled units, shape (n,).

    mismatch: (lower - upper) / scale. dual_step: penalty * change of the second side / price_scale.
    lower, upper: values / scale. price: price / price_scale.
    side: +1 where the first side is the lower one, -1 where it is the upper one.
    objective_error: estimated, as a share of the turnover; dual_share: the dual residual as a multiple of its
    tolerance (numbers). The two tolerances are those of the run.
    """

    iteration: int
    mismatch: np.ndarray
    dual_step: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    price: np.ndarray
    side: np.ndarray
    objective_error: float = np.inf
    dual_share: float = 0.0
    consensus_tolerance: float = 1e-3
    optimality_tolerance: float = 1e-4

    @property
    def first(self) -> np.ndarray:
        """The first side's values / scale."""
        return np.where(self.side > 0, self.lower, self.upper)

    @property
    def second(self) -> np.ndarray:
        """The second side's values / scale."""
        return np.where(self.side > 0, self.upper, self.lower)

    @property
    def half_price(self) -> np.ndarray:
        """The price between the two sides' answers, to which the first side's answer is optimal, / price_scale."""
        return self.price + self.side * self.dual_step


class PenaltyPolicy(Protocol):
    """What the engine asks of a policy.

    One that may start far too high can also have `most_price_move`: how far a price moves in one iteration at most,
    in units of price_scale (a number; no limit without it).
    """

    name: str

    def start(self, layout: Layout) -> np.ndarray:
        """The first penalty, shape (n,), EUR per unit squared and period."""

    def update(self, penalty: np.ndarray, seen: Observation) -> np.ndarray:
        """The next penalty: the same array if nothing changes. Must stop changing it after finitely many."""


def unit_penalty(layout: Layout) -> np.ndarray:
    """price_scale / scale, shape (n,): the penalty that counts as 1 per unit."""
    return layout.price_scale / layout.scale


def relative_ratio(seen: Observation, at: np.ndarray) -> float | None:
    """Relative mismatch over relative dual step of some entries; None where there is nothing to compare.

    |y - z| / max(|y|, |z|)  over  |D dz| / |price|   (Wohlberg 2017, section 4)
    """
    mismatch, step = np.linalg.norm(seen.mismatch[at]), np.linalg.norm(seen.dual_step[at])
    size = max(np.linalg.norm(seen.lower[at]), np.linalg.norm(seen.upper[at]))
    price = np.linalg.norm(seen.price[at])
    if max(mismatch, step) <= NOTHING or min(size, price) <= NOTHING:
        return None
    if step <= NOTHING:
        return np.inf
    return float((mismatch / size) / (step / price))


def check_positive(policy: str, **values: Any) -> None:
    """Raise InputError unless every value is a finite number above 0."""
    for key, value in values.items():
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not np.isfinite(value) or value <= 0:
            raise InputError(f"penalty '{policy}': {key} is {value!r}, expected a finite number above 0")
