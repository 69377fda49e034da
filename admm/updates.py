"""Dual update, residuals and tolerances: pure functions of arrays over the layout's entries.

Values are scaled by each entry's `scale`, prices by its `price_scale`, so that MW of gas and Mvar,
EUR 50 and EUR 5, count alike in one norm.
"""

from __future__ import annotations

import numpy as np

from admm.couplings import Layout
from admm.graph import entries_as_given
from admm.state import Residuals, Settings, State

LEAST_TURNOVER = 0.01
"""Share of the nominal turnover (price_scale x scale) below which errors are not measured against the turnover."""


def dual_update(state: State, most: float | np.ndarray = np.inf) -> np.ndarray:
    """price + penalty * (lower - upper), shape (n,), EUR per unit and period. No price moves by more than `most`."""
    return state.price + np.clip(state.penalty * (state.lower - state.upper), -most, most)


def scaled_mismatch(state: State, layout: Layout) -> np.ndarray:
    """(lower - upper) / scale, shape (n,)."""
    return (state.lower - state.upper) / layout.scale


def largest_mismatch(mismatch: np.ndarray, layout: Layout) -> float:
    """The largest one between the two given ends of a coupling; halves of a relayed one add up. mismatch: scaled."""
    return float(np.abs(np.bincount(entries_as_given(layout), mismatch)).max())


def scaled_dual_step(penalty: np.ndarray, second: np.ndarray, second_before: np.ndarray, layout: Layout) -> np.ndarray:
    """penalty * (change of the second side's values) / price_scale, shape (n,).

    Boyd et al. (2011), section 3.3: what the first side's optimality condition is off by.
    """
    return penalty * (second - second_before) / layout.price_scale


def turnover_eur(state: State) -> float:
    """Sum of |price x value| over all entries: the yardstick for objective errors."""
    return float(np.abs(state.price * state.upper).sum())


def least_turnover(state: State, layout: Layout) -> float:
    """The turnover, EUR, or a small part of the nominal one where hardly anything is exchanged or paid."""
    return max(turnover_eur(state), turnover_floor(layout))


def turnover_floor(layout: Layout) -> float:
    """EUR; a small part of the nominal turnover, below which no error is measured against what is exchanged."""
    return LEAST_TURNOVER * float(layout.price_scale @ layout.scale)


def residuals(state: State, dual_step: np.ndarray, layout: Layout, settings: Settings) -> Residuals:
    """Both residual norms, their tolerances (Boyd et al. 2011, eq. 3.12), and the two other tests."""
    mismatch = scaled_mismatch(state, layout)
    lower, upper, price = state.lower / layout.scale, state.upper / layout.scale, state.price / layout.price_scale
    floor = np.sqrt(layout.size) * settings.absolute_tolerance
    size = max(np.linalg.norm(lower), np.linalg.norm(upper))
    return Residuals(
        primal=float(np.linalg.norm(mismatch)),
        dual=float(np.linalg.norm(dual_step)),
        primal_tolerance=float(floor + settings.relative_tolerance * size),
        dual_tolerance=float(floor + settings.relative_tolerance * np.linalg.norm(price)),
        mismatch=largest_mismatch(mismatch, layout),
        objective_error=objective_error(state, dual_step * layout.price_scale, layout),
    )


def objective_error(state: State, dual_step: np.ndarray, layout: Layout) -> float:
    """Estimated |objective - optimum| as a share of the turnover.

    Costs of answers that do not agree are off by price x mismatch to first order; answers to a
    reference that still moves are off by dual step x value. Signs are kept: that is how they add up.
    Where hardly anything is exchanged or paid, the share is that of a small part of the nominal turnover.
    """
    turnover = least_turnover(state, layout)
    error = abs(state.price @ (state.lower - state.upper)) + abs(dual_step @ state.upper)
    return float(error / turnover)


def inner_accuracy(primal: float, entries: int, now: float, least: float = 1e-5) -> float:
    """Accuracy to ask of agents, as a share of scale: a tenth of the rms mismatch, within [least, 1e-3].

    It never loosens: a looser answer after a tighter one would show up as a residual of its own.
    """
    return min(now, float(np.clip(0.1 * primal / np.sqrt(entries), min(least, 1e-3), 1e-3)))
