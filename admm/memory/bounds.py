"""What is proven of the optimum so far: the best lower bound with its price, the upper bound of the schedule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from admm.memory.joint import Joint


class Proof(NamedTuple):
    """Bounds of the optimum, EUR; None where there is none."""

    lower_eur: float | None
    upper_eur: float | None

    @property
    def gap_eur(self) -> float | None:
        return None if self.lower_eur is None or self.upper_eur is None else self.upper_eur - self.lower_eur


class Bounds:
    """lower_eur: proven by prices alone; upper_eur: the cost of the present schedule; None where there is none.

    price: (n,), at which the lower bound was found.
    """

    def __init__(self) -> None:
        self.lower_eur: float | None = None
        self.upper_eur: float | None = None
        self.price: np.ndarray | None = None
        self._agents_eur = 0.0

    def take_lower(self, price: np.ndarray, parts: Iterable[float | None], joint: Joint) -> None:
        """By weak duality: the bounds of all agents at one price add up to a bound of the whole."""
        parts = list(parts)
        leads = None if None in parts else joint.bound_eur(price)
        if leads is None:
            return
        total = float(sum(parts)) + leads
        if self.lower_eur is None or total > self.lower_eur:
            self.lower_eur, self.price, self._agents_eur = total, price.copy(), float(sum(parts))

    def rebase(self, joint: Joint) -> None:
        """The leads' models have moved: their part of both bounds is that of the new ones."""
        self.upper_eur = None
        leads = None if self.price is None else joint.bound_eur(self.price)
        self.lower_eur = None if leads is None else self._agents_eur + leads

    def proof(self) -> Proof:
        """What is proven now; it stands whatever moves later."""
        return Proof(self.lower_eur, self.upper_eur)
