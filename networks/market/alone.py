"""What a day costs a community that stays out of coordination, under the same errors and at the same prices.

It sees prices only. At the day-ahead prices it plans its day, at every gate it plans the rest anew with the latest
forecasts, and it settles as all others do: the plan at the day-ahead price, changes at the gate's price, and what it
draws otherwise at the price of imbalance. It offers no flexibility.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from admm import AgentBoundary
from admm.run import check_answer
from networks.market.community_day import CommunityDay
from networks.market.tariffs import ENERGY, tariff_question
from subproblems import QPAgent

NO_OFFER_EUR_PER_MW = 1e3
"""What flexibility would cost the community in every period, so that it offers none."""


@dataclass(frozen=True)
class SettledPrices:
    """Of energy at the coupling of one community, EUR per MW and period. steps: {gate: (T,)}, -1 day-ahead.
    imbalance: (T,)."""

    steps: Mapping[int, np.ndarray]
    imbalance: np.ndarray

    @classmethod
    def of_lists(cls, steps: Mapping[str, Sequence[float]], imbalance: Sequence[float]) -> SettledPrices:
        """Read them from JSON, which has texts as keys."""
        return cls({int(gate): np.array(price) for gate, price in steps.items()}, np.array(imbalance))


def plan_at(agent: QPAgent, coupling: str, boundary: AgentBoundary, price: np.ndarray) -> np.ndarray:
    """Let a community choose its best schedule at a price of energy, (T,); what it draws, (T,) MW.

    Raises what a run raises where there is no usable answer.
    """
    at = boundary.slices()
    prices = {key: price if key[1] == ENERGY else np.full(price.size, NO_OFFER_EUR_PER_MW) for key in at}
    answer = agent.answer(tariff_question(boundary, prices))
    check_answer(coupling, answer, boundary.size)
    return answer.values[at[coupling, ENERGY]]


def alone_eur(
    day: CommunityDay, plans: Iterator[tuple[int, np.ndarray]], planned_mw: np.ndarray, prices: SettledPrices
) -> float:
    """Settle a day: own cost, limits that gave way, and energy.

    Args:
        day: of the community alone; after `plans` is used up, after the closing.
        plans: the gates and what the community draws from then on, (T,) MW; the last one is what was drawn.
        planned_mw: what it planned day-ahead, (T,).
        prices: of its coupling.
    """
    standing, paid = planned_mw, float(prices.steps[-1] @ planned_mw)
    *gates, (_, realised) = plans
    for gate, drawn in gates:
        paid += float(prices.steps[gate][gate:] @ (drawn - standing)[gate:])
        standing = np.concatenate([standing[:gate], drawn[gate:]])
    return day.cost_eur() + day.relief_eur() + paid + float(prices.imbalance @ (realised - standing))
