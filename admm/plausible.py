"""Whether numbers that an agent or a file gives can be meant: held against the sizes that the couplings state.

Bounds are generous, as a stated scale may itself be far off: `admm.sizes` looks after that. What is beyond them would
spoil prices, penalties, accelerations and the other agents' answers, and nobody could tell where it came from.
"""

from __future__ import annotations

import numpy as np

from admm.errors import AgentError, InputError
from admm.interfaces import AgentBoundary, Answer

MOST_SCALES = 1e7
"""Size of a value, in scales, up to which it can be meant."""
MOST_SCALES_AT_PRICE = 1e15
"""The same of an answer to a price alone, which may lie at a limit that stands for none."""
MOST_PRICE_SCALES = 1e9
"""Size of a price that a run starts with, in price scales."""
MOST_PENALTY = 1e12
"""Of a penalty that a run starts with, in units of price scale / scale; its inverse is the least."""
MOST_NOMINAL_TURNOVERS = 1e15
"""Size of a cost or bound, in nominal turnovers of the agent's boundary."""


def check_plausible(name: str, answer: Answer, boundary: AgentBoundary, most: float = MOST_SCALES) -> None:
    """Raise AgentError, naming agent, coupling, quantity and period, for an answer that cannot be meant."""
    if not answer.status.usable:
        return
    share = np.abs(np.asarray(answer.values, dtype=float)) / boundary.scale
    worst = int(np.argmax(share)) if share.size else 0
    if share.size and share[worst] > most:
        coupling, quantity, period = place(boundary, worst)
        raise AgentError(
            f"agent '{name}': its answer at coupling '{coupling}', {quantity}, period {period} is "
            f"{answer.values[worst]:g}, {share[worst]:.0e} times the scale of {boundary.scale[worst]:g}, "
            f"expected at most {most:.0e} times: the agent is at fault, or the scale is far too small"
        )
    nominal = float(boundary.scale @ boundary.price_scale)
    for label in ("cost_eur", "bound_eur"):
        value = getattr(answer, label)
        if value is not None and abs(value) > MOST_NOMINAL_TURNOVERS * nominal:
            raise AgentError(
                f"agent '{name}': its {label} is {value:g}, expected a size of at most {MOST_NOMINAL_TURNOVERS:.0e} "
                f"times the {nominal:g} EUR of its nominal turnover: check its costs and their units"
            )


def place(boundary: AgentBoundary, entry: int) -> tuple[str, str, int]:
    """Coupling, quantity and period of one of the agent's entries."""
    for (coupling, quantity), at in boundary.slices().items():
        if at.start <= entry < at.stop:
            return coupling, quantity, entry - at.start
    raise IndexError(entry)


def check_start(where: str, values: np.ndarray, unit: float, most: float) -> None:
    """Raise InputError where a run would start from something that cannot be meant. unit: its nominal size."""
    period = int(np.argmax(np.abs(values)))
    if abs(values[period]) > most * unit:
        raise InputError(
            f"{where} is {values[period]:g} in period {period}, expected a size of at most {most:.0e} times "
            f"the nominal {unit:g}: check its unit"
        )
