"""The scheme "certified": two-block ADMM that stops on a proof. Its loop is that of `admm.two_block`, untouched.

Every few iterations the agents that do not lead are asked what the present price alone is worth to them, in the
same message as ADMM's question, and the leads look for the best combination of all answers that the run has seen.
Where the bounds meet, one more exchange hands that schedule out. Agents that do not tell their cost leave no proof:
then the tests of `admm.two_block` decide.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from admm.interfaces import Answer, Question
from admm.memory.certificate import Certificate
from admm.plausible import check_plausible
from admm.run import check_answer
from admm.state import Residuals, Status
from admm.two_block import TwoBlock

FIRST = 4
"""The first iteration with a certificate round."""
NEAR = 30.0
"""Multiple of the tolerated gap up to which every iteration has a round; further away every other one has."""


class Certified(TwoBlock):
    """One iteration is one exchange of both sides; some are certificate rounds, the last one hands out the schedule."""

    KEPT = (*TwoBlock.KEPT, "prices", "proven", "handing_out", "next_round")

    def __init__(self, *common) -> None:
        super().__init__(*common)
        self.state.accuracy = self.settings.final_accuracy  # a loose answer may cost less than any true one
        self.certificate = Certificate(self)
        self.prices: list[np.ndarray] = []
        self.proven: dict[str, Sequence[Answer]] = {}
        self.handing_out, self.next_round = False, FIRST

    def snapshot(self) -> dict[str, Any]:
        return {**super().snapshot(), "certificate": self.certificate.snapshot()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        self.certificate.restore(kept["certificate"])
        super().restore(kept)

    def iterate(self) -> Status:
        if not self.handing_out:
            return super().iterate()
        self.complete = self.state.copy()
        self.state.iteration += 1
        done, self.handing_out = self.certificate.hand_out(), False
        best = self.certificate.bounds.price
        self.state.price = self.certificate.schedule.price if best is None else best
        seen = self.history[-1].residuals
        self.record_proof(replace(seen, mismatch=self.certificate.mismatch(), objective_error=self.certificate.gap()))
        self.history[-1] = replace(self.history[-1], objective_eur=self.certificate.proof.upper_eur)
        limit = self.limits()
        return Status.CERTIFIED if done else limit

    def due(self) -> bool:
        """Whether this iteration is a certificate round: also the last but one, so that the last hands out a schedule
        whether or not it is proven."""
        return self.state.iteration >= self.next_round or self.one_is_left()

    def wait(self) -> int:
        """Iterations until the next round: the fewer, the closer bounds are."""
        gap = self.certificate.gap()
        return 1 if gap is not None and gap <= NEAR * self.settings.optimality_tolerance else 2

    def one_is_left(self) -> bool:
        return self.state.iteration + 1 == self.settings.max_iterations

    def exchange(self, names: Sequence[str], part: str) -> None:
        """As in two-block ADMM; agents that do not lead are asked for a bound in the same message where one is due.
        A price alone may have no answer."""
        asked = {name: [self.question(name)] for name in names}
        self.prices = self.prices_to_prove() if self.due() else []
        for name in names:
            if name in self.certificate.remembered:
                asked[name] = [*self.price_questions(name), *asked[name]]
        answers = self.ask_batches(asked, part, check=False)
        for name, given in answers.items():
            check_answer(name, given[-1], self.layout.entries(name).size)
            check_plausible(name, given[-1], self.boundaries[name])
            self.accept(name, given[-1])
            if name in self.certificate.remembered:
                self.learn(name, asked[name], given)

    def prices_to_prove(self) -> list[np.ndarray]:
        """The one that the iteration starts from, and that of the last schedule: an agent without limits proves
        something at an exact price only, which joint solves have and ADMM comes near to."""
        schedule = self.certificate.schedule
        return [self.start.price] if schedule is None else [self.start.price, schedule.price]

    def price_questions(self, name: str) -> list[Question]:
        return [self.certificate.question(name, price, self.state.upper, 0.0) for price in self.prices]

    def learn(self, name: str, questions: Sequence[Question], given: Sequence[Answer]) -> None:
        self.proven[name] = given
        for question, answer in zip(questions, given, strict=True):
            self.certificate.learn(name, question, answer)

    def record(self, seen: Residuals) -> None:
        if self.due() and self.certificate.costs_told:
            self.certify()
            self.next_round = self.state.iteration + self.wait()
        self.record_proof(seen)

    def record_proof(self, seen: Residuals) -> None:
        """An iteration, with what is proven so far."""
        super().record(seen)
        proof, gap = self.certificate.proof, self.certificate.gap()
        self.history[-1] = replace(
            self.history[-1], lower_bound_eur=proof.lower_eur, upper_bound_eur=proof.upper_eur, certified_gap=gap
        )

    def certify(self) -> None:
        """Bounds at the prices that were asked for, and a schedule from all answers so far. The run's own
        values stay as they are until the schedule is handed out."""
        certificate, state, began = self.certificate, self.state, time.perf_counter()
        own = state.lower, state.upper
        certificate.prove(self.prices, {name: self.proven[name] for name in certificate.asked})
        schedule = certificate.find_schedule(state.price)
        if schedule is not None:
            for name, kept in certificate.remembered.items():
                kept.forget_idle([schedule.answer.mix[name]])
            self.handing_out = certificate.ready() or (self.one_is_left() and certificate.proof.upper_eur is not None)
        state.lower, state.upper = own
        self.seconds["operators"] += time.perf_counter() - began

    def waits_for(self, seen: Residuals) -> str:
        return "proof" if self.certificate.provable() else super().waits_for(seen)

    def close(self, limit: Status, sure: bool = True) -> Status:
        """Residuals stop the run only where no proof is to be had."""
        return self.budget() if self.certificate.provable() else Status.CONVERGED
