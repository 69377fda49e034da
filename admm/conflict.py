"""Agents whose limits cannot hold together: noticed while a run goes on, and proved.

Where no agreement exists, the two sides' answers keep a distance that does not fall, and prices run away along it. That
distance, times the penalty, is the normal of a plane between what the sides can do (Pazy 1971; Banjac et al. 2019,
"Infeasibility detection in the alternating direction method of multipliers"). So it is tried as a price d, at which
every agent is asked, without its own cost, what its limits leave at least:

    sum over agents of  min d . (their values)  > 0       while every agreement would make that sum 0

Each minimum is a bound that the agent proves from its own multipliers: what is said here is proven, whatever found d.
Costs keep that distance from its limit for long. So the same exchanges look for the points that come nearest to an
agreement without any cost (`admm.nearest`), and the direction between them is the next price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from admm.couplings import Block, Layout
from admm.errors import InfeasibleError
from admm.graph import given_name, same_on_relays
from admm.interfaces import Answer, Question
from admm.nearest import Nearest

if TYPE_CHECKING:
    from admm.run import Run

WINDOW = 10
"""Iterations over which the mismatch is looked at."""
FIRST, WAIT, WAIT_SHARE = 20, 10, 0.5
"""The first iteration that may look for a proof, and how long to wait after one in vain: iterations, or their share."""
LATE = (100, 200, 400)
"""Iterations that look for a proof although the mismatch turns or is small, where its mean is above the tolerance."""
COHERENT, LASTS, FAR = 0.8, 0.9, 3.0
"""A mismatch that lasts points one way, hardly falls within the window, and is above so many tolerances."""
SHARPER = 0.1
"""Entries below this share of the largest one are left out of the price that is tried first."""
ACCURACY = 1e-8
MOST_ROUNDS = 12
"""Exchanges that one look for a proof takes at most."""
MOST_NAMED, MOST_EXPLAINED, MOST_RANGES = 4, 6, 8
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


def due(iteration: int, next_look: int, mismatches: Sequence[np.ndarray], tolerance: float) -> bool:
    """Whether to look for a proof now; mismatches: scaled, (n,) each, the latest WINDOW ones."""
    if iteration in LATE:
        return apart(mismatches, tolerance)
    return iteration >= next_look and lasts(mismatches, tolerance)


def apart(mismatches: Sequence[np.ndarray], tolerance: float) -> bool:
    """Whether the sides were apart on average over the latest WINDOW iterations."""
    return len(mismatches) == WINDOW and bool(np.abs(np.mean(mismatches, axis=0)).max() > tolerance)


def look(run: Run) -> None:
    """Raise InfeasibleError where it is proven that the agents' limits do not hold together; MOST_ROUNDS exchanges.

    Each asks every agent what its limits leave at the prices that may separate the sides, and for the point of its
    limits that comes nearest to an agreement. It ends early where such points agree: then there is no conflict.
    """
    nearest = Nearest(run)
    prices = _with_sharper(_drift(run), run.layout)
    for _ in range(MOST_ROUNDS):
        run.proof_exchanges += 1
        questions = {name: _questions(run, nearest, name, prices) for name in nearest.names}
        answers = run.ask_batches(questions, "agents", check=False)
        for i, price in enumerate(prices, start=1):
            at_price = {name: given[i] for name, given in answers.items()}
            if excess_eur(at_price) > least_excess(price, run.layout, run.settings.consensus_tolerance):
                told = words(price, _explained(run, nearest, price), run.layout)
                raise InfeasibleError(f"{told} (iteration {run.state.iteration}, {run.proof_exchanges} more exchanges)")
        if nearest.too_large or not all(given[0].status.usable for given in answers.values()):
            return
        nearest.take(answers)
        if nearest.agree(run.settings.consensus_tolerance):
            return
        prices = _with_sharper(nearest.price(), run.layout)


def _explained(run: Run, nearest: Nearest, price: np.ndarray) -> dict[str, Answer]:
    """The answers to a price that proves it, with the limits that hold each agent there."""
    run.proof_exchanges += 1
    questions = {name: [replace(_at_price(run, name, price), settle=True)] for name in nearest.names}
    return {name: given[0] for name, given in run.ask_batches(questions, "agents", check=False).items()}


def _drift(run: Run) -> np.ndarray:
    """The direction in which prices run away, (n,)."""
    drift = run.state.penalty * run.layout.scale * np.mean(run.mismatches, axis=0)
    drift = same_on_relays(drift, run.layout)
    size = float(np.max(np.abs(drift) / run.layout.price_scale))
    return drift / size if size > 0 else drift


def _with_sharper(price: np.ndarray, layout: Layout) -> list[np.ndarray]:
    """The price without its small entries, where it has any, and the price itself, (n,) each."""
    size = np.abs(price) / layout.price_scale
    sharp = np.where(size >= SHARPER * size.max(), price, 0.0)
    return [price] if np.array_equal(price, sharp) else [sharp, price]


def _questions(run: Run, nearest: Nearest, name: str, prices: Sequence[np.ndarray]) -> list[Question]:
    """The nearest point first: at its flows an operator answers the prices."""
    wanted, weight = nearest.wanted(name), nearest.weight(name)
    near = Question(run.state.iteration, 0.0 * wanted, wanted, weight, accuracy=ACCURACY, own_cost=False)
    return [near, *(_at_price(run, name, price) for price in prices)]


def _at_price(run: Run, name: str, price: np.ndarray) -> Question:
    own = run.layout.boundary(name).sign * price[run.layout.entries(name)]
    return Question(run.state.iteration, own, 0.0 * own, 0.0 * own, accuracy=ACCURACY, own_cost=False)


def excess_eur(answers: Mapping[str, Answer]) -> float:
    """The sum of all bounds; minus infinity where an agent has none, or answers with a cost of its own."""
    usable = all(answer.status.usable and answer.proves and answer.cost_eur == 0.0 for answer in answers.values())
    bounds = [answer.bound_eur for answer in answers.values()]
    return float(sum(bounds)) if usable and None not in bounds else -np.inf


def least_excess(price: np.ndarray, layout: Layout, tolerance: float) -> float:
    """What an agreement within the tolerance could make of the sum: what would pass the tests is not refused."""
    return tolerance * float(np.abs(price) @ layout.scale)


def words(price: np.ndarray, answers: Mapping[str, Answer], layout: Layout) -> str:
    """Who is in conflict, about what and when, by how much, and by which of their limits.

    Agents are those with any price: without one of them there may be an agreement. Of couplings, the chief ones.
    """
    weight = np.abs(price) * layout.scale
    blocks = sorted(_priced(price, layout), key=lambda block: -float(weight[block.entries].max()))
    shown = [block for block in blocks if weight[block.entries].max() >= SHOWN * weight.max()]
    involved = dict.fromkeys(name for block in blocks for name in (block.coupling.lower, block.coupling.upper))
    names = [name for name in involved if name in answers]
    about = _listed([_block_words(block, weight) for block in shown], MOST_NAMED)
    limits = _listed([f"'{name}': {answers[name].reason or 'its limits'}" for name in names], MOST_EXPLAINED, ". ")
    return (
        f"the limits of {', '.join(repr(name) for name in names)} do not hold together, proven at the flows of the "
        f"nearest values: no values agree at {about}{_missing(price, answers, layout)}. What holds them: {limits}. "
        "Raise one of these limits, or lower what an agent must take or give"
    )


def _priced(price: np.ndarray, layout: Layout) -> list[Block]:
    return [block for block in layout.blocks if price[block.entries].any()]


def _listed(parts: Sequence[str], most: int, between: str = ", ") -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(parts) - most} more" if len(parts) > most else ""
    return between.join(parts[:most]) + more


def _missing(price: np.ndarray, answers: Mapping[str, Answer], layout: Layout) -> str:
    """By how much all values miss each other at least, where those with a price have one unit.

    price . mismatch is the excess at least, and no more than the largest price times the sum of all mismatches.
    """
    units, excess = {block.quantity.unit for block in _priced(price, layout)}, excess_eur(answers)
    if len(units) != 1 or not excess > 0:
        return ""
    return f"; in sum over them at least {excess / np.abs(price).max():.3g} {units.pop()} are missing or in excess"


def _block_words(block: Block, weight: np.ndarray) -> str:
    here = weight[block.entries]
    at = np.flatnonzero(here >= SHOWN * weight.max())
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    ranges = [f"{run[0]}" if run.size == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    when = "all periods" if at.size == here.size else f"period{'s' * (at.size > 1)} {_listed(ranges, MOST_RANGES)}"
    return f"'{given_name(block.coupling.name)}', {block.quantity.name} ({when})"
