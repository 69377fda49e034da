"""The scheme "two-block": Gauss-Seidel ADMM over a coupling graph with two sides, and nothing else.

for every coupling: lower value y, upper value z, price = multiplier of (y - z)
first side answers, second side answers, price <- price + penalty * (y - z)
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from admm import updates
from admm.couplings import Layout
from admm.initial import checked_penalty, initial_state
from admm.interfaces import Answer, AnswerStatus, Question
from admm.penalty import Observation, PenaltyPolicy, policy_for, unit_penalty
from admm.run import Run
from admm.state import Progress, Residuals, Status

ACCURACY_EVERY = 3
"""Iterations between updates of the accuracy that agents are asked for."""


class TwoBlock(Run):
    """One iteration is one exchange: first side, second side, price, penalty; then the tests."""

    def __init__(self, *common) -> None:
        super().__init__(*common)
        self.policy: PenaltyPolicy = policy_for(self.settings.penalty)
        self.state = initial_state(self.layout, self.settings, self.policy)
        self.second_entries = _entries_answered_by(self.sides.second, self.layout)
        self.answers: dict[str, Answer] = {}
        self.settle = False
        self.complete = self.state.copy()

    def fall_back(self) -> None:
        self.state = self.complete

    def iterate(self) -> Status:
        state = self.state
        self.complete = state.copy()
        state.iteration += 1
        before = self.second_values()
        self.exchange(self.sides.first, "agents")
        self.exchange(self.sides.second, "operators")
        state.price = updates.dual_update(state)
        dual_step = updates.scaled_dual_step(state.penalty, self.second_values(), before, self.layout)
        seen = updates.residuals(state, dual_step, self.layout, self.settings)
        self.record(seen)
        status = self.test(seen)
        if status is Status.RUNNING:
            proposed = self.policy.update(state.penalty, self.observe(dual_step))
            state.penalty = checked_penalty(proposed, self.policy, self.layout)
            if state.iteration % ACCURACY_EVERY == 0:
                state.accuracy = updates.inner_accuracy(seen.primal, self.layout.size, state.accuracy)
        return status

    def second_values(self) -> np.ndarray:
        """The second side's values, shape (n,), whichever end of each coupling it is."""
        return np.where(self.second_entries == 1, self.state.lower, self.state.upper)

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

    def observe(self, dual_step: np.ndarray) -> Observation:
        state, layout = self.state, self.layout
        return Observation(
            iteration=state.iteration,
            mismatch=updates.scaled_mismatch(state, layout),
            dual_step=dual_step,
            lower=state.lower / layout.scale,
            upper=state.upper / layout.scale,
            price=state.price / layout.price_scale,
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
            )
        )

    def objective(self) -> float | None:
        costs = [answer.cost_eur for answer in self.answers.values()]
        return None if None in costs else float(sum(costs))

    def test(self, seen: Residuals) -> Status:
        """Whether to go on. A stop counts at the final accuracy only, with exact answers and settled models."""
        settings, now = self.settings, self.history[-1]
        limit = self.limits()
        if limit is Status.STOPPED:
            return limit
        self.settle = seen.passed(settings)
        exact = all(answer.status is AnswerStatus.SOLVED for answer in self.answers.values())
        if self.settle and exact and now.accuracy <= settings.final_accuracy and now.model_error <= 1.0:
            return Status.CONVERGED
        if self.settle:
            self.state.accuracy = min(self.state.accuracy, settings.final_accuracy)
        return limit


def _entries_answered_by(names: Sequence[str], layout: Layout) -> np.ndarray:
    """shape (n,): +1 where one of the agents is the lower side, -1 where the upper."""
    end = np.zeros(layout.size)
    for name in names:
        end[layout.entries(name)] = layout.boundary(name).sign
    return end
