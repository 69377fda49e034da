"""Devices without control: they start at full power as soon as they can and stop when they are done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from subproblems.reservoir import Reservoir


def level_after(begin: float, target: float, step: float, periods: int) -> float:
    """The level of a store that is filled by at most `step` a period from `begin` on until it reaches the target."""
    return max(begin, min(begin + step * periods, target))


def filled_at_once(reservoir: Reservoir, target: np.ndarray) -> Reservoir:
    """The reservoir with the power of its only leg fixed, shape of target and power (periods,):

    power[t] = min(maximum_kw[t], max(0, (target[t] - keep[t] state[t-1] - drift[t]) / change[t]))

    Its lower limits go, since nothing is left to decide that they could bind.
    """
    (leg,), state, power_kw = reservoir.legs, reservoir.initial, np.zeros(target.size)
    for t in range(target.size):
        before = reservoir.keep[t] * state + reservoir.drift[t]
        power_kw[t] = min(leg.maximum_kw[t], max(0.0, (target[t] - before) / leg.change[t]))
        state = before + leg.change[t] * power_kw[t]
    fixed = replace(leg, minimum_kw=power_kw, maximum_kw=power_kw)
    return replace(reservoir, lower=np.full(target.size, -np.inf), legs=(fixed,))
