"""Classical ADMM: one penalty from start to end."""

from __future__ import annotations

import numpy as np

from admm.couplings import Layout
from admm.penalty.policy import Observation, check_positive, unit_penalty


class Classical:
    """A fixed penalty: `per_unit` in scaled units, or `raw` in EUR per unit squared and period."""

    name = "classical"

    def __init__(self, per_unit: float = 1.0, raw: float | None = None) -> None:
        check_positive(self.name, per_unit=per_unit, **({} if raw is None else {"raw": raw}))
        self.per_unit, self.raw = per_unit, raw

    def start(self, layout: Layout) -> np.ndarray:
        if self.raw is not None:
            return np.full(layout.size, float(self.raw))
        return self.per_unit * unit_penalty(layout)

    def update(self, penalty: np.ndarray, seen: Observation) -> np.ndarray:
        return penalty


class ClassicalRaw(Classical):
    """A fixed penalty of one number in raw units, whatever the scales: what textbooks mean by rho."""

    name = "classical-raw"

    def __init__(self, raw: float = 1.0) -> None:
        super().__init__(raw=raw)
