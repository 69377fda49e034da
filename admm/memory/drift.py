"""The penalty of the scheme "memory": price-scaled, raised where a mismatch keeps its sign."""

from __future__ import annotations

import numpy as np

from admm.couplings import Layout
from admm.penalty import unit_penalty

START_PER_UNIT = 0.8
DRIFTING = 2e-3
"""Mismatch, as a share of scale, above which its sign counts."""
ROUNDS, STEP, SPAN = 3, 3.0, 100.0
"""Rounds of one sign after which the penalty is multiplied by STEP, up to SPAN times its start."""


class DriftPenalty:
    """value: (n,). An entry whose mismatch keeps its sign is raised; on a change of
    sign it goes back towards the start."""

    name = "drift"

    def start(self, layout: Layout) -> np.ndarray:
        self.value = START_PER_UNIT * unit_penalty(layout)
        self._start = self.value.copy()
        self._sign, self._rounds = np.zeros(layout.size), np.zeros(layout.size)
        return self.value

    def update(self, mismatch: np.ndarray) -> np.ndarray:
        """mismatch: (n,), as a share of scale. Returns the next penalty."""
        sign = np.where(np.abs(mismatch) > DRIFTING, np.sign(mismatch), 0.0)
        flipped = sign * self._sign < 0
        self._rounds = np.where(sign == 0, 0, np.where(sign == self._sign, self._rounds + 1, 1))
        drifting = self._rounds >= ROUNDS
        self._rounds[drifting] = 0
        raised = np.where(drifting, np.minimum(self.value * STEP, SPAN * self._start), self.value)
        eased = np.maximum(self.value / STEP, self._start)
        self.value = np.where(flipped & (self.value > self._start), eased, raised)
        self._sign = sign
        return self.value
