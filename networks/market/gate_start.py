"""Where a gate's coordination begins: at the gate before, moved by what is known to have changed.

Agents tell by how much their power changes if their devices stay at what they were told to do; flexibility of periods
that are over is gone, and so are prices there. Penalties are those that the day-ahead run ended with, one a
quantity: from those of single entries, or of the gate before, gates take no fewer iterations. Where nothing changed
they hold the agents at what is agreed. Where forecasts failed they are too large: they were raised for the end of a
run, and what a community can no longer do must move to others at hardly any difference of price, which takes the
longer the larger they are. There a share of them is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from admm import Coupling, Settings, warm_start
from admm.couplings import Layout
from admm.penalty import unit_penalty
from admm.state import BoundaryResult

Boundary = Mapping[str, Mapping[str, BoundaryResult]]
POWER_SHARE, FLEXIBILITY_SHARE = 0.5, 0.2
"""Of the day-ahead run's penalties, at a gate before which forecasts failed."""


def gate_settings(
    settings: Settings,
    couplings: Sequence[Coupling],
    day_ahead: Boundary,
    former: Boundary,
    changes_mw: Mapping[str, np.ndarray],
    gate: int,
) -> Settings:
    """The settings of one gate. former: results of the gate before. changes_mw: {coupling: (T,)} of its p_mw.

    The tolerance of costs stays a share of the whole day's turnover, of which ever less is left to be agreed on.
    """
    start = warm_start(former, couplings)
    for coupling, change in changes_mw.items():
        start.values[coupling]["p_mw"] += change
    for coupling, quantities in start.price.items():
        for quantity, price in quantities.items():
            price[:gate] = 0.0
            if quantity != "p_mw":
                start.values[coupling][quantity][:gate] = 0.0
    failed = _forecasts_failed(couplings, changes_mw, settings.consensus_tolerance)
    start = replace(start, penalty=_penalties(couplings, day_ahead, failed))
    left = _turnover_eur(former, gate) / _turnover_eur(day_ahead, 0)
    tolerance = settings.optimality_tolerance / min(1.0, max(left, settings.optimality_tolerance))
    return replace(start.applied_to(settings), optimality_tolerance=tolerance)


def _turnover_eur(boundary: Boundary, gate: int) -> float:
    every = [each for quantities in boundary.values() for each in quantities.values()]
    return max(sum(float(np.abs(each.price * each.upper)[gate:].sum()) for each in every), np.finfo(float).tiny)


def _forecasts_failed(couplings: Sequence[Coupling], changes_mw: Mapping[str, np.ndarray], tolerance: float) -> bool:
    """Whether the power of a coupling changes by more than the mismatch that a run may end with, a share of scale."""
    scale = {c.name: q.scale for c in couplings for q in c.quantities if q.name == "p_mw"}
    return any(float(np.abs(change).max()) > tolerance * scale[name] for name, change in changes_mw.items())


def _penalties(couplings: Sequence[Coupling], day_ahead: Boundary, failed: bool) -> dict[str, dict[str, np.ndarray]]:
    """For every quantity the median of its penalties, per unit of its price and size; a share if forecasts failed."""
    layout = Layout(couplings)
    unit, ended = unit_penalty(layout), np.empty(layout.size)
    for block in layout.blocks:
        ended[block.entries] = day_ahead[block.coupling.name][block.quantity.name].penalty
    penalty = unit.copy()
    for at in layout.quantity_groups().values():
        penalty[at] *= np.median(ended[at] / unit[at])
    found: dict[str, dict[str, np.ndarray]] = {}
    for block in layout.blocks:
        share = POWER_SHARE if block.quantity.name == "p_mw" else FLEXIBILITY_SHARE
        used = share if failed else 1.0
        found.setdefault(block.coupling.name, {})[block.quantity.name] = used * penalty[block.entries]
    return found
