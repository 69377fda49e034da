"""Several questions at once to the agents of the star, and the answers by hand: asked in-process and over MPI."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import admm
from admm.couplings import Layout
from admm.graph import split
from admm.run import Run
from tests.small_problems import STAR_COST, STAR_SLOPE, STAR_TARGET, STAR_WEIGHT, star

BEYOND = 99.0
"""More than any consumer may take: to follow it is infeasible."""
ACCURACY = 1e-9


def question(price: list[float], reference: list[float], penalty: float) -> admm.Question:
    arrays = np.array(price), np.array(reference), np.full(len(price), penalty)
    return admm.Question(1, *arrays, accuracy=ACCURACY)


BATCHES = {
    "a": [question([1.0], [0.0], 0.0), question([1.0], [BEYOND], np.inf), question([3.0], [1.5], 2.0)],
    "c": [question([2.0], [0.5], np.inf)],
    "s": [question([-2.0] * 3, [0.2, 0.3, 0.4], 5.0), question([-3.0] * 3, [0.0, 0.1, 0.2], 1.0)],
}
"""Agent "b" is not asked."""


def by_hand() -> dict[str, list[np.ndarray | None]]:
    """{agent: its answers}, None where there is none.

    Consumer: (w t - price + penalty r) / (w + penalty). Supplier of total s: each sold p_i solves
    COST + SLOPE s + price + penalty (p_i - r_i) = 0, so penalty (s - sum r) = -3 (COST + SLOPE s + price).
    """
    w, t = STAR_WEIGHT[0], STAR_TARGET[0]
    consumer = [np.array([t - 1.0 / w]), None, np.array([(w * t - 3.0 + 2.0 * 1.5) / (w + 2.0)])]
    supplier = []
    for asked in BATCHES["s"]:
        penalty, price = asked.penalty[0], asked.price[0]
        total = (penalty * asked.reference.sum() - 3 * (STAR_COST + price)) / (penalty + 3 * STAR_SLOPE)
        supplier.append(asked.reference - (STAR_COST + STAR_SLOPE * total + price) / penalty)
    return {"a": consumer, "c": [np.array([0.5])], "s": supplier}


def run_of(transport: admm.Transport, owned: Mapping[str, admm.Agent]) -> Run:
    """A run that has started and can ask; its agents live where `owned` says on each rank."""
    sides = split(star().couplings)
    layout = Layout(sides.couplings)
    transport.start(owned, {name: layout.boundary(name) for name in layout.agents})
    return Run(layout, sides, admm.Settings(), transport, owned)


def plain(answers: Mapping[str, list[admm.Answer]]) -> dict[str, list]:
    """What has to be the same to the last bit: values, status and cost; words of the reason."""
    return {
        name: [[list(map(float, a.values)), a.status.name, a.cost_eur, a.reason] for a in given]
        for name, given in answers.items()
    }
