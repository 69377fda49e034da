"""Where a run starts: prices and values as given by name, spread over the layout's entries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from admm.couplings import Layout
from admm.errors import InputError
from admm.graph import given_name
from admm.penalty import PenaltyPolicy
from admm.state import Settings, State


def initial_state(layout: Layout, settings: Settings, policy: PenaltyPolicy) -> State:
    value = _spread_initial(layout, settings.initial_values, "initial_values")
    price = _spread_initial(layout, settings.initial_price, "initial_price")
    penalty = checked_penalty(policy.start(layout), policy, layout)
    return State(lower=value.copy(), upper=value, price=price, penalty=penalty)


def checked_penalty(penalty: np.ndarray, policy: PenaltyPolicy, layout: Layout) -> np.ndarray:
    penalty = np.asarray(penalty, dtype=float)
    if penalty.shape != (layout.size,) or not np.isfinite(penalty).all() or (penalty <= 0).any():
        name = getattr(policy, "name", type(policy).__name__)
        raise InputError(f"penalty policy '{name}': start and update must give {layout.size} finite numbers above 0")
    return penalty


def _spread_initial(layout: Layout, given: Mapping[str, Mapping[str, np.ndarray]], key: str) -> np.ndarray:
    """{coupling: {quantity: array}} to one flat array, 0 where nothing is given."""
    flat, used = np.zeros(layout.size), set()
    for block in layout.blocks:
        coupling = given_name(block.coupling.name)
        values = given.get(coupling, {}).get(block.quantity.name)
        if values is None:
            continue
        array = np.asarray(values, dtype=float)
        if array.shape != (block.quantity.periods,) or not np.isfinite(array).all():
            raise InputError(
                f"settings: {key} of '{coupling}', '{block.quantity.name}' has shape {array.shape}, "
                f"expected {(block.quantity.periods,)} finite numbers"
            )
        flat[block.entries] = array
        used.add((coupling, block.quantity.name))
    unknown = [(c, q) for c, quantities in given.items() for q in quantities if (c, q) not in used]
    if unknown:
        raise InputError(f"settings: {key} names '{unknown[0][0]}', '{unknown[0][1]}', which is no coupling's quantity")
    return flat
