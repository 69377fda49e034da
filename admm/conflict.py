"""Agents whose limits cannot hold together: noticed while a run goes on, and proved.

Where no agreement exists, the two sides' answers keep a distance that does not fall, and prices run away along it. That
distance, times the penalty, is the normal of a plane between what the sides can do (Pazy 1971; Banjac et al. 2019,
"Infeasibility detection in the alternating direction method of multipliers"). So it is tried as a price d, at which
every agent is asked, without its own cost, what its limits leave at least:

    sum over agents of  min d . (their values)  > 0       while every agreement would make that sum 0

Each minimum is a bound that the agent proves from its own multipliers: what is said here is proven, whatever found d.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from admm.couplings import Layout
from admm.errors import InfeasibleError
from admm.graph import given_name
from admm.interfaces import Answer, Question

if TYPE_CHECKING:
    from admm.run import Run

WINDOW = 10
"""Iterations over which the mismatch is looked at."""
FIRST, WAIT, WAIT_SHARE = 20, 10, 0.5
"""The first iteration that may look for a proof, and how long to wait after one in vain: iterations, or their share."""
COHERENT, LASTS, FAR = 0.8, 0.9, 3.0
"""A mismatch that lasts points one way, hardly falls within the window, and is above so many tolerances."""
SHARPER = 0.1
"""Entries below this share of the largest one are left out of the second price that is tried."""
ACCURACY = 1e-8
MOST_NAMED = 4
SHOWN = 0.1
"""Share of the largest term from which on a period is named."""


def lasts(mismatches: Sequence[np.ndarray], tolerance: float) -> bool:
    """Whether the scaled mismatches, (n,) each, keep a part that does not fall."""
    if len(mismatches) < WINDOW:
        return False
    half = WINDOW // 2
    former, latter = np.mean(mismatches[:half], axis=0), np.mean(mismatches[half:], axis=0)
    whole = np.linalg.norm(np.sum(mismatches, axis=0)), sum(float(np.linalg.norm(one)) for one in mismatches)
    if np.abs(latter).max() <= FAR * tolerance or whole[0] <= COHERENT * whole[1]:
        return False
    return np.linalg.norm(latter) >= LASTS * np.linalg.norm(former)


def candidates(run: Run) -> list[np.ndarray]:
    """Prices, (n,), that may separate the sides, the largest one as large as its price scale."""
    layout = run.layout
    drift = run.state.penalty * layout.scale * np.mean(run.mismatches, axis=0)
    drift = _same_on_relays(drift, run)
    size = np.abs(drift) / layout.price_scale
    if not size.max() > 0:
        return []
    drift = drift / size.max()
    sharp = np.where(size >= SHARPER * size.max(), drift, 0.0)
    return [drift] if np.array_equal(drift, sharp) else [drift, sharp]


def _same_on_relays(price: np.ndarray, run: Run) -> np.ndarray:
    """Both halves of a relayed coupling at their mean: a relay has an answer to no other price."""
    blocks: dict[tuple[str, str], list[slice]] = {}
    for block in run.layout.blocks:
        blocks.setdefault((given_name(block.coupling.name), block.quantity.name), []).append(block.entries)
    price = price.copy()
    for halves in blocks.values():
        mean = np.mean([price[at] for at in halves], axis=0)
        for at in halves:
            price[at] = mean
    return price


def look(run: Run) -> None:
    """Raise InfeasibleError where it is proven that the agents' limits do not hold together."""
    prices = candidates(run)
    asked = [name for name in run.layout.agents if name not in run.sides.relays]
    questions = {name: [_question(run, name, price) for price in prices] for name in asked}
    answers = run.ask_batches(questions, "agents", check=False) if prices else {}
    for i, price in enumerate(prices):
        at_price = {name: given[i] for name, given in answers.items()}
        if excess_eur(at_price) > least_excess(price, run.layout, run.settings.consensus_tolerance):
            raise InfeasibleError(words(price, at_price, run.layout))


def _question(run: Run, name: str, price: np.ndarray) -> Question:
    at, nothing = run.layout.entries(name), np.zeros(run.layout.entries(name).size)
    own = run.layout.boundary(name).sign * price[at]
    return Question(run.state.iteration, own, nothing, nothing, accuracy=ACCURACY, own_cost=False)


def excess_eur(answers: Mapping[str, Answer]) -> float:
    """The sum of all bounds; minus infinity where an agent has none, or answers with a cost of its own."""
    usable = all(answer.status.usable and answer.proves and answer.cost_eur == 0.0 for answer in answers.values())
    bounds = [answer.bound_eur for answer in answers.values()]
    return float(sum(bounds)) if usable and None not in bounds else -np.inf


def least_excess(price: np.ndarray, layout: Layout, tolerance: float) -> float:
    """What an agreement within the tolerance could make of the sum: what would pass the tests is not refused."""
    return tolerance * float(np.abs(price) @ layout.scale)


def words(price: np.ndarray, answers: Mapping[str, Answer], layout: Layout) -> str:
    """Who is in conflict, about what and when, and by which of their limits."""
    weight = np.abs(price) * layout.scale
    blocks = sorted(layout.blocks, key=lambda block: -float(weight[block.entries].max()))
    shown = [block for block in blocks if weight[block.entries].max() >= SHOWN * weight.max()]
    about = [_block_words(block, weight) for block in shown[:MOST_NAMED]]
    more = f" and {len(shown) - MOST_NAMED} more" if len(shown) > MOST_NAMED else ""
    involved = dict.fromkeys(name for block in shown for name in (block.coupling.lower, block.coupling.upper))
    names = [name for name in involved if name in answers]
    limits = [f"'{name}': {answers[name].reason or 'its limits'}" for name in names]
    return (
        f"the limits of {', '.join(repr(name) for name in names)} do not hold together, proven at the flows of the "
        f"latest answers: no values agree at {', '.join(about)}{more}. What holds them: {'. '.join(limits)}. "
        "Raise one of these limits, or lower what an agent must take or give"
    )


def _block_words(block, weight: np.ndarray) -> str:
    here = weight[block.entries]
    periods = np.flatnonzero(here >= SHOWN * weight.max())
    when = "all periods" if periods.size == here.size else f"periods {', '.join(map(str, periods[:12]))}"
    when += ", ..." if periods.size > 12 and periods.size < here.size else ""
    return f"'{given_name(block.coupling.name)}', {block.quantity.name} ({when})"
