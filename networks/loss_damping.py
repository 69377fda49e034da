"""Damping of the flow corrections of a central solve, by scenario and period.

A correction moves the rows to the exact flow at the latest optimum. Where what losses cost is steep beside the other
costs, the optimum jumps from one side of the operating point to the other, and the corrections never end. There the
curvature of the losses around the operating point is multiplied. It vanishes at the operating point, so the
optimum that the corrections end at is the same.

A factor is raised only: lowered again, it lets the optimum jump again. One factor for all periods does not do, since a
period that needs a small one then moves too slowly.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

STEP, MOST_STEPS = 4.0, 9
GAIN = 0.8
"""An error that is not this much smaller after a correction needs more damping."""


class LossDamping:
    """Factors on the curvature of losses, {scenario: (periods,)}, at first 1."""

    def __init__(self, scenarios: Mapping[str, object], periods: int) -> None:
        self.factors = {name: np.ones(periods) for name in scenarios}
        self._before = {name: np.full(periods, np.inf) for name in scenarios}

    @property
    def idle(self) -> bool:
        """Whether nothing is damped."""
        return all((factor == 1.0).all() for factor in self.factors.values())

    def raise_where_stuck(self, errors: Mapping[str, np.ndarray], exact: float) -> None:
        """Multiply the factors of the periods whose error is above `exact` and did not fall by GAIN.

        Args:
            errors: {scenario: (periods,)} error of the latest optimum's flow, in multiples of what is corrected.
            exact: error that counts as none.
        """
        for name, error in errors.items():
            stuck = (error > GAIN * self._before[name]) & (error > exact)
            raised = np.where(stuck, STEP * self.factors[name], self.factors[name])
            self.factors[name] = np.minimum(raised, STEP**MOST_STEPS)
            self._before[name] = error
