"""Which rank owns which agent: longest processing time first, side by side.

The two sides answer one after the other, so each side is spread over all ranks by itself
(Graham 1969: at most 4/3 - 1/(3 ranks) times the shortest possible time).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from admm.errors import InputError
from admm.graph import RELAY


def balance(
    weights: Mapping[str, float],
    sides: tuple[Sequence[str], Sequence[str]],
    ranks: int,
    driving: Sequence[str] = (),
) -> dict[str, int]:
    """{agent: rank}, in the order of the sides.

    weights: {agent: median seconds an answer}, such as `Result.solve_seconds`; equal weights do for a
    first run. driving: agents that have to live on rank 0, which drives. With ranks = agents + 1 rank 0 owns
    nothing else; with fewer it owns others too. At a tie the rank with less work over both sides, then the
    lowest rank, so every rank finds the same placement.
    Relays are passed over: they live on rank 0.
    """
    sides = tuple([name for name in side if not name.startswith(RELAY)] for side in sides)
    agents = [*sides[0], *sides[1]]
    _check(weights, agents, ranks, driving)
    usable = range(1, ranks) if ranks == len(agents) + 1 else range(ranks)
    placement = dict.fromkeys(driving, 0)
    total = dict.fromkeys(range(ranks), 0.0) | {0: sum(weights[name] for name in driving)}
    for side in sides:
        load = dict.fromkeys(range(ranks), 0.0) | {0: sum(weights[name] for name in side if name in placement)}
        free = [name for name in side if name not in placement]
        for name in sorted(free, key=lambda name: (-weights[name], name)):
            rank = min(usable, key=lambda rank: (load[rank], total[rank], rank))
            placement[name] = rank
            load[rank] += weights[name]
            total[rank] += weights[name]
    return {name: placement[name] for name in agents}


def _check(weights: Mapping[str, float], agents: Sequence[str], ranks: int, driving: Sequence[str]) -> None:
    if isinstance(ranks, bool) or not isinstance(ranks, int) or not 1 <= ranks <= len(agents) + 1:
        raise InputError(f"ranks is {ranks!r}, expected 1 to {len(agents) + 1}: the agents and one more that drives")
    if len(set(agents)) != len(agents):
        raise InputError("placement: an agent is named twice on the two sides")
    for name in driving:
        if name not in agents:
            raise InputError(f"placement: '{name}' has to live on rank 0, but is none of {', '.join(agents)}")
    for name in agents:
        if name not in weights:
            raise InputError(f"placement: agent '{name}' has no weight, expected its mean seconds an answer")
        if not (math.isfinite(weights[name]) and weights[name] > 0):
            raise InputError(f"placement: agent '{name}' has weight {weights[name]!r}, expected a number above 0")
