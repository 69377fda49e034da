"""The scheme "two-block": Gauss-Seidel ADMM over a coupling graph with two sides, and nothing else.

for every coupling: lower value y, upper value z, price = multiplier of (y - z)
first side answers, second side answers, price <- price + penalty * (y - z)

An acceleration may move the point (z, price) that an iteration starts from and what the second side is shown of
y. Answers, residuals, costs and results are those of answers that agents gave.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from admm import conflict, updates
from admm.acceleration import MOST_CAPPED, Acceleration, Point, acceleration_for, capped_share, checked_point
from admm.closing import Closing
from admm.couplings import Layout
from admm.initial import checked_penalty, initial_state
from admm.interfaces import Answer, AnswerStatus, Question
from admm.penalty import Observation, PenaltyPolicy, policy_for, unit_penalty
from admm.plausible import check_plausible
from admm.run import Run, check_answer
from admm.state import Progress, Residuals, Status

ACCURACY_EVERY = 3
"""Iterations between updates of the accuracy that agents are asked for."""


class TwoBlock(Run):
    """One iteration is one exchange: first side, second side, price, penalty; then the tests."""

    KEPT = (*Run.KEPT, "start", "answers", "settle", "unprepared")

    def __init__(self, *common) -> None:
        super().__init__(*common)
        self.policy: PenaltyPolicy = policy_for(self.settings.penalty)
        self.state = initial_state(self.layout, self.settings, self.policy)
        self.most_price_move = getattr(self.policy, "most_price_move", np.inf) * self.layout.price_scale
        self.acceleration: Acceleration = acceleration_for(self.settings.acceleration)
        self.acceleration.forget()
        self.side = _side(self.sides.first, self.layout)
        self.start = Point(self.second_values(), self.state.price)
        self.answers: dict[str, Answer] = {}
        self.settle = False
        self.complete = self.state.copy()
        self.unprepared: tuple[np.ndarray, Residuals] | None = None
        self.closing = Closing(self)

    def snapshot(self) -> dict[str, Any]:
        proof = self.closing.snapshot()
        inner = {"policy": vars(self.policy), "acceleration": vars(self.acceleration), "proof": proof}
        return {**super().snapshot(), **inner}

    def check_kept(self, kept: Mapping[str, Any]) -> None:
        super().check_kept(kept)
        if not kept["answers"].keys() <= set(self.layout.agents):
            raise ValueError("answers of agents that the run does not have")
        for name, answer in kept["answers"].items():
            check_answer(name, answer, self.layout.entries(name).size)
            check_plausible(name, answer, self.boundaries[name])
        self.closing.check_kept(kept["proof"])

    def restore(self, kept: Mapping[str, Any]) -> None:
        super().restore(kept)
        vars(self.policy).update(kept["policy"])
        vars(self.acceleration).update(kept["acceleration"])
        self.closing.restore(kept["proof"])
        self.frozen.latest.update(self.answers)
        if self.unprepared is not None:  # the run before was ended before it prepared the next iteration
            self.prepare_next(*self.unprepared)

    def fall_back(self) -> None:
        self.state = self.complete

    def iterate(self) -> Status:
        if self.closing.rounds.plan is not None:
            return self.hand_out()
        if self.state.iteration and self.closing.due() and self.asks_for_proof():
            return self.look_for_proof()
        return self.exchange_once()

    def look_for_proof(self) -> Status:
        """A round: the run's own values stay as they are."""
        self.complete = self.state.copy()
        self.state.iteration += 1
        if self.closing.rounds.count == 0 and conflict.apart(self.mismatches, self.settings.consensus_tolerance):
            self.prove_conflict()
        self.closing.round()
        self.record(self.history[-1].residuals)
        return self.limits()

    def hand_out(self) -> Status:
        """All agents follow the plan; if that is no proof, the next iteration starts from there."""
        self.complete = self.state.copy()
        self.state.iteration += 1
        proven = self.closing.hand_out()
        mismatch = updates.largest_mismatch(updates.scaled_mismatch(self.state, self.layout), self.layout)
        self.record(replace(self.history[-1].residuals, mismatch=mismatch))
        limit = self.limits()
        if proven and (self.closing.beyond_doubt() or self.tests_count(self.closing.gap_eur())):
            return Status.CERTIFIED
        self.start = Point(self.second_values(), self.state.price)
        self.acceleration.forget()
        return limit

    def exchange_once(self) -> Status:
        """Both sides answer, the price moves; then the tests."""
        state = self.state
        self.complete = state.copy()
        state.iteration += 1
        dual_step = self.step(self.start)
        seen = updates.residuals(state, dual_step, self.layout, self.settings)
        self.record(seen)
        self.look_for_conflict()
        status = self.test(seen)
        self.unprepared = dual_step, seen
        if status is Status.RUNNING:
            self.prepare_next(dual_step, seen)
        return status

    def step(self, start: Point) -> np.ndarray:
        """Both sides answer and the price moves, from `start`. Returns the scaled dual step, shape (n,)."""
        state = self.state
        state.price = start.price
        self.put_values(start.second, ~self.side)
        self.exchange(self.sides.first, "agents")
        first = self.first_values()
        shown = self.acceleration.relax(first, start.second)
        self.put_values(shown, self.side)
        self.exchange(self.sides.second, "operators")
        state.price = updates.dual_update(state, self.most_price_move)
        self.put_values(first, self.side)
        moved_from = start.second + (shown - first)
        return updates.scaled_dual_step(state.penalty, self.second_values(), moved_from, self.layout)

    def prepare_next(self, dual_step: np.ndarray, seen: Residuals) -> None:
        """All that the next iteration begins with."""
        state = self.state
        self.prepare_start(dual_step, seen)
        if state.iteration % ACCURACY_EVERY == 0:
            least = self.settings.final_accuracy
            state.accuracy = updates.inner_accuracy(seen.primal, self.layout.size, state.accuracy, least)
        self.unprepared = None

    def prepare_start(self, dual_step: np.ndarray, seen: Residuals) -> None:
        """The next penalty, and the point that the next iteration starts from."""
        state, after = self.state, Point(self.second_values(), self.state.price)
        penalty = checked_penalty(
            self.policy.update(state.penalty, self.observe(dual_step, seen)), self.policy, self.layout
        )
        same = np.array_equal(penalty, state.penalty)
        self.start = self.next_start(self.start, after, penalty, same)
        state.penalty = penalty

    def next_start(self, before: Point, after: Point, penalty: np.ndarray, same: bool) -> Point:
        """Where the acceleration goes on from; `after` if the penalty has moved or much of the step is capped."""
        if same and capped_share(before, after, penalty, self.most_price_move) < MOST_CAPPED:
            start = self.acceleration.next_start(before, after, penalty)
            return checked_point(start, self.acceleration, self.layout.size)
        self.acceleration.forget()
        return after

    def first_values(self) -> np.ndarray:
        """The first side's values, shape (n,), whichever end of each coupling it is."""
        return np.where(self.side, self.state.lower, self.state.upper)

    def second_values(self) -> np.ndarray:
        """The second side's values, shape (n,)."""
        return np.where(self.side, self.state.upper, self.state.lower)

    def put_values(self, values: np.ndarray, lower: np.ndarray) -> None:
        """Make `values` the lower ones where `lower` is true and the upper ones elsewhere."""
        self.state.lower = np.where(lower, values, self.state.lower)
        self.state.upper = np.where(lower, self.state.upper, values)

    def exchange(self, names: Sequence[str], part: str) -> None:
        """Ask one side and take its answers into the state."""
        answers = self.ask({name: self.question(name) for name in names}, part)
        for name in names:
            self.accept(name, answers[name])

    def question(self, name: str) -> Question:
        boundary, at, state = self.layout.boundary(name), self.layout.entries(name), self.state
        reference = np.where(boundary.sign > 0, state.upper[at], state.lower[at])
        return Question(
            iteration=state.iteration,
            price=boundary.sign * state.price[at],
            reference=reference,
            penalty=state.penalty[at],
            accuracy=state.accuracy,
            settle=self.settle,
        )

    def accept(self, name: str, answer: Answer) -> None:
        at, lower_side = self.layout.entries(name), self.layout.boundary(name).sign > 0
        values = np.asarray(answer.values, dtype=float)
        self.state.lower[at[lower_side]] = values[lower_side]
        self.state.upper[at[~lower_side]] = values[~lower_side]
        self.answers[name] = answer
        self.closing.see(name, answer)

    def observe(self, dual_step: np.ndarray, seen: Residuals) -> Observation:
        state, layout = self.state, self.layout
        return Observation(
            iteration=state.iteration,
            mismatch=updates.scaled_mismatch(state, layout),
            dual_step=dual_step,
            lower=state.lower / layout.scale,
            upper=state.upper / layout.scale,
            price=state.price / layout.price_scale,
            side=np.where(self.side, 1.0, -1.0),
            objective_error=seen.objective_error,
            dual_share=seen.dual / seen.dual_tolerance,
            consensus_tolerance=self.settings.consensus_tolerance,
            optimality_tolerance=self.settings.optimality_tolerance,
        )

    def record(self, seen: Residuals) -> None:
        state = self.state
        self.history.append(
            Progress(
                iteration=state.iteration,
                residuals=seen,
                penalty=float(np.exp(np.mean(np.log(state.penalty / unit_penalty(self.layout))))),
                objective_eur=self.objective(),
                model_error=max(answer.model_error for answer in self.answers.values()),
                accuracy=state.accuracy,
                inner_iterations=sum(answer.inner_iterations for answer in self.answers.values()),
                seconds=time.perf_counter() - self.began,
                solves=len(self.answers),
                bytes=self.transport.traffic.bytes,
                lower_bound_eur=self.closing.lower_eur,
                upper_bound_eur=self.closing.upper_eur,
                certified_gap=self.closing.gap(),
                waits_for=self.waits_for(seen),
            )
        )

    def waits_for(self, seen: Residuals) -> str:
        """What keeps the run from ending: the test that is furthest off, or what a stop needs beside the tests."""
        proving = self.closing.count or self.closing.rounds.count
        later = "proof" if proving else "scales" if self.doubts else ""
        return seen.furthest(self.settings) or self.unsettled() or later

    def unsettled(self) -> str:
        """What a stop needs that answers do not have yet: solved, with models at their flows, to the final accuracy."""
        answers = self.answers.values()
        if not all(answer.status is AnswerStatus.SOLVED for answer in answers):
            return "solver"
        if max(answer.model_error for answer in answers) > 1.0:
            return "flows"
        return "" if self.state.accuracy <= self.settings.final_accuracy else "accuracy"

    def objective(self) -> float | None:
        costs = [answer.cost_eur for answer in self.answers.values()]
        return None if None in costs else float(sum(costs))

    def test(self, seen: Residuals) -> Status:
        """Whether to go on. A stop counts at the final accuracy only, with exact answers and settled models."""
        settings = self.settings
        limit = self.limits()
        self.settle = seen.passed(settings)
        wanted = limit is not Status.STOPPED
        error_eur = seen.objective_error * updates.least_turnover(self.state, self.layout)
        if wanted and self.settle and not self.unsettled():
            sure = self.tests_count(error_eur, seen.dual)
            if sure or self.asks_for_proof():
                return self.close(limit, sure)
        if self.settle:
            self.state.accuracy = min(self.state.accuracy, settings.final_accuracy)
        return limit

    def asks_for_proof(self) -> bool:
        return self.settings.proof and self.settings.scheme == "two-block" and self.closing.possible()

    def close(self, limit: Status, sure: bool = True) -> Status:
        """How a run ends that has passed its tests: with a proof, or without where none is asked for; or it goes on.

        sure: whether the stated scales are near enough for what is a share of them.
        """
        if not self.asks_for_proof():
            return Status.CONVERGED
        if self.state.iteration < self.closing.next:
            return limit
        proven = self.closing.hold()
        self.history[-1] = replace(
            self.history[-1],
            lower_bound_eur=self.closing.lower_eur,
            upper_bound_eur=self.closing.upper_eur,
            certified_gap=self.closing.gap(),
        )
        if proven and (sure or self.closing.beyond_doubt()):
            return Status.CONVERGED
        if sure and self.closing.endless:
            return Status.CONVERGED
        if sure and self.closing.given_up():
            return Status.AGREED
        return limit


def _side(first: Sequence[str], layout: Layout) -> np.ndarray:
    """shape (n,): true where the first side is the lower one."""
    lower = np.zeros(layout.size, dtype=bool)
    for name in first:
        lower[layout.entries(name)] = layout.boundary(name).sign > 0
    return lower
