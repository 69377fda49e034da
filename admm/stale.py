"""The two-block loop with bounded staleness: slow agents of the first side may answer late, within a bound.

An iteration asks the agents of the first side that have no question under way, waits for some of the answers
(`Patience`) and goes on with the others' former ones. No question is under way for more than `staleness` iterations, as
in Chang, Hong, Liao, Wang (2016), "Asynchronous distributed ADMM for large-scale optimization", part I, and Zhang, Kwok
(2014), "Asynchronous distributed ADMM for consensus optimization". A multiplier takes a step only with an answer to
the very point it was asked at: to move all of them in every iteration with former answers can diverge (Chang et al.).

So every answer is kept with the point (z, price) and the penalty that it answers, entry by entry, and

    second side:  z = argmin g(z) - price_asked . z + 1/2 sum(penalty_asked (y - z)^2)
    price     =   price_asked + penalty_asked * (y - z)

This is one synchronous iteration from the point that is put together of all points answered, and the loop's own to the
last bit where no answer is late. Residuals mean what they mean there, and pairs of points and where they lead are
what Anderson acceleration wants; it forgets them only where a penalty in use has changed. What comes next is given to
idle agents only: an asynchronous block iteration of the Douglas-Rachford operator (Peng, Xu, Yan, Yin 2016, "ARock").
The proofs of these papers want steps that shrink, or penalties that grow, with the delay. Here steps are full, and the
penalty adapts: there is no proof, but a stop is tested as ever, and counts only where all answers are to the present
point. Then agents' own schedules are those behind the result, too.

A question that is under way is in no checkpoint: where one is and a save is due, the next iteration waits for all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from admm import updates
from admm.acceleration import Point
from admm.initial import checked_penalty
from admm.state import Residuals, Result, Status
from admm.two_block import TwoBlock


class Patience:
    """Whether an exchange has waited long enough, asked again and again while answers come in.

    For all of `needed`, and for `least` answers; then for those of `punctual` that come before it has waited FACTOR
    times as long as for these: what differs by less is not worth an iteration that does without it.
    """

    FACTOR = 4.0

    def __init__(self, needed: Collection[str], punctual: Collection[str], least: int) -> None:
        self.needed, self.punctual, self.least = set(needed), set(punctual), least
        self.began = time.perf_counter()
        self.until = math.inf

    def over(self, arrived: Collection[str]) -> bool:
        """arrived: the agents whose answers have come, asked now or before."""
        if not self.needed.issubset(arrived) or len(arrived) < self.least:
            return False
        if self.punctual.issubset(arrived):
            return True
        now = time.perf_counter()
        self.until = min(self.until, self.began + self.FACTOR * (now - self.began))
        return now >= self.until


@dataclass
class Asked:
    """What questions were asked at, arrays of shape (n,): second side's values, in the unit; price; penalty."""

    second: np.ndarray
    price: np.ndarray
    penalty: np.ndarray

    def take(self, other: Asked, at: np.ndarray) -> None:
        """Make entries `at` those of the other."""
        self.second[at], self.price[at], self.penalty[at] = other.second[at], other.price[at], other.penalty[at]

    def copy(self) -> Asked:
        return Asked(self.second.copy(), self.price.copy(), self.penalty.copy())


class Stale(TwoBlock):
    """TwoBlock in which the first side's answers may be late.

    penalty: of questions to come; the state's is that of the answers in use. under_way, answered_in: {agent: iteration
    in which its question under way, or the one answered last, was asked}. asked, answered: the points of these.
    heard: agents that have answered in this round; a round is over when all have. rounds: those that are over.
    slow: agents whose last answer was late, for which nobody waits before they have to.
    ending: how the run ends when all answers have come; gathering: they have to come before a save.
    """

    KEPT = (*TwoBlock.KEPT, "penalty", "answered", "answered_in", "heard", "slow", "rounds")

    QUORUM = 0.5
    """Share of the first side that answers in every iteration: with fewer, the second side's time is not worth it."""

    def __init__(self, *common) -> None:
        super().__init__(*common)
        self.penalty = self.state.penalty
        self.asked = Asked(self.start.second.copy(), self.start.price.copy(), self.penalty.copy())
        self.answered = self.asked.copy()
        self.under_way: dict[str, int] = {}
        self.answered_in: dict[str, int] = {}
        self.heard: set[str] = set()
        self.slow: set[str] = set()
        self.rounds = 0
        self.ending: Status | None = None
        self.gathering = False

    def ready_to_save(self) -> bool:
        self.gathering = bool(self.under_way)
        return not self.gathering

    def step(self, start: Point) -> np.ndarray:
        """As in TwoBlock, from the points that the answers in use were given at."""
        state = self.state
        state.price, state.penalty = start.price, self.penalty
        self.put_values(start.second, ~self.side)
        former = self.answered.penalty.copy()
        self.post(start)
        self.take_in()
        state.price, state.penalty = self.answered.price.copy(), self.answered.penalty.copy()
        if not np.array_equal(state.penalty, former):
            self.acceleration.forget()
        first = self.first_values()
        shown = self.acceleration.relax(first, self.answered.second)
        self.put_values(shown, self.side)
        self.exchange(self.sides.second, "operators")
        state.price = updates.dual_update(state, self.most_price_move)
        self.put_values(first, self.side)
        moved_from = self.answered.second + (shown - first)
        return updates.scaled_dual_step(state.penalty, self.second_values(), moved_from, self.layout)

    def post(self, start: Point) -> None:
        """Ask those of the first side that have no question under way."""
        idle = [name for name in self.sides.first if name not in self.under_way]
        here = Asked(start.second, start.price, self.penalty)
        for name in idle:
            self.asked.take(here, self.layout.entries(name))
            self.under_way[name] = self.state.iteration
        punctual = [name for name in idle if name not in self.slow]
        self.patience = Patience(self.needed(), punctual, math.ceil(self.QUORUM * len(self.sides.first)))
        with self.timed("agents"):
            self.transport.post({name: self.question(name) for name in idle})

    def needed(self) -> list[str]:
        """Agents that this iteration waits for, however long it takes."""
        state, settings = self.state, self.settings
        if self.settle or self.ending or self.gathering or state.iteration == settings.max_iterations:
            return list(self.under_way)
        late = state.iteration - settings.staleness
        return [name for name, asked in self.under_way.items() if asked <= late or name not in self.answered_in]

    def take_in(self) -> None:
        """Wait as long as it is worth it, and take what has come into the state."""
        with self.timed("agents"):
            arrived = self.transport.collect(self.patience.over)
        for name in (name for name in self.sides.first if name in arrived):
            self.count(name, [arrived[name]])
            self.accept(name, arrived[name])
            self.answered.take(self.asked, self.layout.entries(name))
            self.answered_in[name] = self.under_way.pop(name)
            self.heard.add(name)
            (self.slow.discard if self.answered_in[name] == self.state.iteration else self.slow.add)(name)

    def prepare_start(self, dual_step: np.ndarray, seen: Residuals) -> None:
        """The penalty of the next questions, and the point at which they are asked."""
        state, after = self.state, Point(self.second_values(), self.state.price)
        penalty = self.next_penalty(dual_step, seen)
        before = Point(self.answered.second.copy(), self.answered.price.copy())
        same = np.array_equal(penalty, self.penalty)
        self.start = self.next_start(before, after, state.penalty, same)
        self.penalty = penalty

    def next_penalty(self, dual_step: np.ndarray, seen: Residuals) -> np.ndarray:
        """A policy sees rounds: an answer that stands for several iterations would look like a mismatch that lasts."""
        if len(self.heard) < len(self.sides.first):
            return self.penalty
        self.heard, self.rounds = set(), self.rounds + 1
        observed = replace(self.observe(dual_step, seen), iteration=self.rounds)
        return checked_penalty(self.policy.update(self.penalty, observed), self.policy, self.layout)

    def close(self, limit: Status, sure: bool = True) -> Status:
        """A stop counts, and a proof is asked for, with fresh answers only: while tests pass, all are waited for."""
        return super().close(limit, sure) if self.fresh() and not self.under_way else self.budget()

    def waits_for(self, seen: Residuals) -> str:
        return super().waits_for(seen) or ("" if self.fresh() else "answers")

    def test(self, seen: Residuals) -> Status:
        """As in TwoBlock; and an end takes in the answers that are under way."""
        status = super().test(seen)
        if status is Status.RUNNING:
            return self.ending or status
        if self.under_way:
            self.ending = status
            return Status.RUNNING
        return status

    def fresh(self) -> bool:
        """Whether all answers in use were asked for in this iteration."""
        return all(asked == self.state.iteration for asked in self.answered_in.values())

    def package(self, status: Status) -> Result:
        self.transport.drop()
        return super().package(status)
