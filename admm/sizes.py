"""Whether the scales that couplings state are near the sizes of their values and prices: tests are shares of scales.

A scale a million times too large would let any two answers pass for equal, and any price for right. So where the
turnover is below the floor of the tests, the same errors are held against the sizes that values and prices have had.
"""

from __future__ import annotations

import numpy as np

from admm.couplings import Layout
from admm.graph import given_name
from admm.state import Settings, State
from admm.updates import LEAST_TURNOVER, turnover_eur, turnover_floor

LEAST_OF_NOMINAL = 1e-9
"""Share of the nominal turnover that is the yardstick at least: so that where nothing is exchanged or paid, and answers
agree, a run ends."""
MISMATCH_SHARE, NOISE_SHARE = 10.0, 0.01
"""Shares of the yardstick: what all mismatches may be worth, in consensus tolerances, and what answers that are not
exact."""
COST_SHARE = 30.0
"""Of all costs, in optimality tolerances: what the objective may be off by, however large the turnover seems. A price
that starts far too high makes any turnover large; limits that bind make prices some times as high as costs."""
UNKNOWN_COST = 1e300
"""In place of costs that are not told: they bound nothing. A checkpoint keeps finite numbers only."""
LEAST_ACCURACY = 1e-9
"""Accuracy that agents are asked for at most while the scales are in doubt."""
MOST_DOUBTS = 40
"""Times that a stop is put off because of the scales, after which the run ends without one."""
HOPELESS = 1e5
"""Size over scale at which a run ends at once."""
FAR_BELOW, FAR_ABOVE, FAR_ABOVE_PRICE = 0.02, 100.0, 30.0
"""Size over scale beyond which a scale is called far off; of prices, which start at theirs and move by one at most."""


def block_sizes(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Largest size of each block of entries, (blocks,)."""
    return np.array([np.abs(values[block.entries]).max() for block in layout.blocks])


def value_sizes(state: State, layout: Layout) -> np.ndarray:
    """Of both sides' present values, by block, in the unit."""
    return np.maximum(block_sizes(state.lower, layout), block_sizes(state.upper, layout))


def yardstick_eur(state: State, layout: Layout, seen: np.ndarray) -> float:
    """The turnover, or the floor that sizes of values so far (`seen`) and of present prices give."""
    floor = 0.0
    for block, value, price in zip(layout.blocks, seen, block_sizes(state.price, layout), strict=True):
        quantity = block.quantity
        floor += quantity.periods * min(quantity.scale, value) * min(quantity.price_scale, price)
    least = LEAST_OF_NOMINAL / LEAST_TURNOVER * turnover_floor(layout)
    return max(turnover_eur(state), LEAST_TURNOVER * floor, least)


def tests_count(
    state: State,
    layout: Layout,
    seen: np.ndarray,
    cost_eur: float,
    settings: Settings,
    error_eur: float,
    dual: float = 0.0,
) -> bool:
    """Whether tests that have passed against the stated scales say what they are meant to.

    cost_eur: the largest sum of all agents' costs' sizes so far. error_eur: what the objective may be off by. Where at
    least the floor of the nominal turnover is exchanged, and the prices are not far beyond the costs, they do.
    dual: the residual, in price scales: errors of single prices, which may cancel in error_eur.
    """
    least = LEAST_OF_NOMINAL / LEAST_TURNOVER * turnover_floor(layout)
    if error_eur > COST_SHARE * settings.optimality_tolerance * max(cost_eur, least):
        return False
    if turnover_eur(state) >= turnover_floor(layout):
        return True
    size = yardstick_eur(state, layout, seen)
    apart = float(np.abs(state.price * (state.lower - state.upper)).sum())
    inexact = state.accuracy * float(np.abs(state.price) @ layout.scale)
    apart += dual * float(np.linalg.norm(layout.price_scale * state.upper))
    agreed = apart <= MISMATCH_SHARE * settings.consensus_tolerance * size and inexact <= NOISE_SHARE * size
    return agreed and error_eur <= settings.optimality_tolerance * size


def doubtful_accuracy(state: State, layout: Layout, seen: np.ndarray) -> float:
    """Accuracy to ask of agents where tests do not count: as much finer as the values are smaller."""
    share = yardstick_eur(state, layout, seen) / turnover_floor(layout)
    return float(np.clip(share * state.accuracy, LEAST_ACCURACY, state.accuracy))


def hopeless(layout: Layout, seen: np.ndarray) -> bool:
    """Whether values are so far above a scale that no solver reaches the accuracy that it stands for."""
    return bool((seen > HOPELESS * np.array([block.quantity.scale for block in layout.blocks])).any())


def words(state: State, layout: Layout, seen: np.ndarray, any_scale: bool = False) -> str:
    """Which stated scale is furthest from the sizes so far, as one sentence; empty where none is far.

    any_scale: name the furthest one however near it is, as where it has ended the run.
    """
    found: list[tuple[float, str]] = []
    exchanged = turnover_eur(state) >= turnover_floor(layout)
    for block, value, price in zip(layout.blocks, seen, block_sizes(state.price, layout), strict=True):
        quantity, unit = block.quantity, block.quantity.unit
        pairs = (
            ("values", "scale", value, quantity.scale, unit, FAR_ABOVE),
            ("prices", "price_scale", price, quantity.price_scale, f"EUR per {unit} and period", FAR_ABOVE_PRICE),
        )
        for what, key, size, scale, of, most in pairs:
            share = size / scale
            if any_scale or share > most or (share < FAR_BELOW and not exchanged):
                where = f"'{given_name(block.coupling.name)}', {quantity.name}"
                sizes = f"the {what} of {where} are at most {size:.3g} {of}, {share:.1g} of the stated {key} {scale:g}"
                runaway = ", unless they run away" if what == "prices" and share > most else ""
                found.append((abs(np.log(max(share, 1e-300))), f"{sizes}: give a {key} near their size{runaway}"))
    return max(found)[1] if found else ""
