"""Rounds that look for the proof where ADMM is slow: mixes of all answers so far, in a box around the best price.

A round asks every agent three things at once, for what it is worth to it

    at the price of the best mixes in a box around the best price so far     a new bound, as in the boxstep method
    at the price of the best mixes without a box                            a bound where the answers so far know enough
    near these mixes' plan at the best price                                an answer in the smooth part of its cost

All three answers join the mixes. The box grows where a bound gains what the mixes promised, and shrinks where it does
not: prices that have to rise to hundreds of their scale get there in some ten rounds. Where the cost of a plan meets
the best bound, the agents follow it, and what they hold then is the schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from admm.graph import same_on_relays
from admm.interfaces import Answer, AnswerStatus
from admm.mix import Mix, Mixes, is_line
from admm.values import is_finite, is_whole

if TYPE_CHECKING:
    from admm.closing import Closing

FIRM = 1e4
"""Price scales that a mismatch of a plan costs: the agents have to agree."""
AGREED = 1e-5
"""Mismatch of the mixes, as a share of scale, up to which they are a plan."""
BOX, GROWS, GAINED = 0.1, 2.0, 0.1
"""Half width of the first box, in price scales; by what it grows, or shrinks; and the share of the promised gain that
makes it grow."""
LEAST_BOX, MOST_BOX = 1e-6, 1e6
BOUND_ACCURACY, FINER, FINEST = 1e-6, 1e-2, 1e-10
"""Accuracy of answers to a proof, as a share of scale; by what it gets finer where that is not enough, and the end."""
IDLE = 6
"""Rounds without a better bound after which answers get finer: a bound is no better than they are."""
ENOUGH = 0.8
"""Share of the tolerance up to which bounds have to meet before a plan is followed."""


class Rounds:
    """What the rounds know. price: (n,), the one with the best bound, which is lower_eur. box: price scales. count:
    rounds so far. plan: (n,), what to follow next, None without one. accuracy: of answers to rounds, as a share of
    scale; missed: whether those of the run itself are too coarse, as a plan that was followed has shown. ended: whether
    there is no proof to be had. idle: rounds since a bound was better."""

    KEPT = ("price", "lower_eur", "box", "count", "plan", "accuracy", "missed", "ended", "idle")

    def __init__(self, closing: Closing) -> None:
        self._closing, self._run, self._layout = closing, closing.run, closing.layout
        self.mixes = Mixes(closing.layout, closing.agents())
        self.price: np.ndarray | None = None
        self.lower_eur: float | None = None
        self.plan: np.ndarray | None = None
        self.box, self.count, self.accuracy = BOX, 0, closing.exactness(BOUND_ACCURACY)
        self.missed, self.ended, self.idle = False, False, 0

    def snapshot(self) -> dict[str, Any]:
        mixes = {name: getattr(self.mixes, name) for name in Mixes.KEPT}
        return {**{name: getattr(self, name) for name in self.KEPT}, "mixes": mixes}

    def restore(self, kept: Mapping[str, Any]) -> None:
        for name in self.KEPT:
            setattr(self, name, kept[name])
        for name in Mixes.KEPT:
            setattr(self.mixes, name, kept["mixes"][name])

    def check_kept(self, kept: Mapping[str, Any]) -> None:
        """Raise ValueError where a snapshot is none of these rounds."""
        for key in ("price", "plan"):
            if kept[key] is not None and not is_line(kept[key], self._layout.size):
                raise ValueError(f"{key} is not an array of {self._layout.size} finite numbers")
        if kept["lower_eur"] is not None and not is_finite(kept["lower_eur"]):
            raise ValueError("lower_eur is not a finite number")
        sizes = all(is_finite(kept[key]) and kept[key] > 0 for key in ("box", "accuracy"))
        if not (sizes and all(is_whole(kept[key]) and kept[key] >= 0 for key in ("count", "idle"))):
            raise ValueError("the box, the accuracy or a count of rounds makes no sense")
        if not all(isinstance(kept[key], bool) for key in ("missed", "ended")):
            raise ValueError("missed or ended is neither true nor false")
        self.mixes.check_kept(kept["mixes"])

    def learn(self, name: str, answer: Answer, accuracy: float) -> None:
        """Remember an answer that is exact enough; accuracy: what it was asked for."""
        exact = answer.status is AnswerStatus.SOLVED and (not self.missed or accuracy <= self.accuracy)
        if exact and answer.cost_eur is not None and not self.ended:
            self.mixes.add(name, answer.values, answer.cost_eur)

    def end(self) -> None:
        """There is no proof to be had: forget what was remembered."""
        if not self.ended:
            self.ended, self.mixes = True, Mixes(self._layout, self._closing.agents())

    def miss(self) -> None:
        """A plan was followed, and cost more than its mixes: answers break limits by what they are not exact, and that
        is worth too much here. Begin anew with finer ones."""
        self.missed, self.accuracy = True, max(FINER * self.accuracy, FINEST)
        self.mixes = Mixes(self._layout, self._closing.agents())

    def hold(self) -> None:
        """One exchange: three questions to every agent."""
        if self.price is None:
            self.price = same_on_relays(self._run.state.price, self._layout)
        self.count += 1
        near, firm = self.mixes.best(self.price, self.box), self.mixes.best(self.price, FIRM)
        prices = [self.price if near is None else near.price, self.price if firm is None else firm.price]
        plan = self._run.second_values() if firm is None else firm.plan
        answers = self._ask(prices, plan)
        bounds = [self._bound([given[i] for given in answers.values()]) for i in range(len(prices))]
        self._take_bounds(prices, bounds, near)
        if self.idle >= IDLE and self.accuracy > FINEST:
            self.idle, self.box, self.accuracy = 0, BOX, max(FINER * self.accuracy, FINEST)
        self._see_plan()

    def _ask(self, prices: list[np.ndarray], plan: np.ndarray) -> Mapping[str, list[Answer]]:
        nothing, closing = np.zeros(self._layout.size), self._closing
        asked = {}
        for name in closing.agents():
            ask = partial(closing.question, name, accuracy=self.accuracy)
            alone = [ask(price, nothing, 0.0) for price in prices]
            asked[name] = [*alone, ask(self.price, plan, self._run.state.penalty)]
        answers = closing.asked(asked)
        for name, given in answers.items():
            for answer in given:
                self.learn(name, answer, self.accuracy)
        return answers

    def _bound(self, answers: list[Answer]) -> float | None:
        bounds = [one.bound_eur if one.status.usable else None for one in answers]
        return None if None in bounds else float(sum(bounds))

    def _take_bounds(self, prices: list[np.ndarray], bounds: list[float | None], near: Mix | None) -> None:
        before = self.lower_eur
        self.idle += 1
        for price, bound in zip(prices, bounds, strict=True):
            if bound is not None and (self.lower_eur is None or bound > self.lower_eur):
                self.lower_eur, self.price, self.idle = bound, price, 0
        if before is None or near is None:
            return
        gain = -np.inf if bounds[0] is None else bounds[0] - before
        if gain >= GAINED * (near.cost_eur - before):
            self.box = min(self.box * GROWS, MOST_BOX)
        elif self.lower_eur == before:
            self.box = max(self.box / GROWS, LEAST_BOX)

    def _see_plan(self) -> None:
        """A plan whose cost meets the best bound is worth following."""
        found = self.mixes.best(self.price, FIRM)
        self.plan = None
        if found is None or found.apart > AGREED or self.lower_eur is None:
            return
        if found.cost_eur - self.lower_eur <= ENOUGH * self._closing.allowed_eur(found.plan, self.price):
            self.plan = found.plan
