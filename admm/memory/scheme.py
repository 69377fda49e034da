"""The scheme "memory": lead operators optimise jointly over their own variables and convex combinations of the
agents' past answers. What they find is a schedule with an upper bound; answers to prices alone give the lower bound.

One exchange: every agent answers a few questions in one message, then the leads solve up to three times.
    bounds      argmin cost + price . b, at the price and halfway to the best one: proven, and worth remembering
    answers     near the leads' values at the price, near the last target at its own price, and the last schedule
    soft        ADMM's step with a mix of answers in place of the latest one: the next price and values
    target      the same with agreement, followers known by supporting planes of their cost: where to ask next
    schedule    agreement of remembered answers alone, followers' too: what all can do, and what it costs
The run ends when upper and lower bound have met (where costs are not told, by Boyd's test) and every agent follows
the schedule. A follower is an agent that supplies, as a transmission operator does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from admm import updates
from admm.errors import SolverError
from admm.initial import initial_state
from admm.interfaces import Answer, Question
from admm.memory.certificate import Certificate, Found
from admm.memory.drift import DriftPenalty
from admm.memory.remembered import Follower
from admm.penalty import unit_penalty
from admm.run import Run
from admm.state import Progress, Residuals, Status

NEAR_VALUES, NEAR_TARGET = (1.0, 0.25), (1.0, 0.2)
FOLLOWER_NEAR_VALUES, FOLLOWER_NEAR_TARGET = (10.0,), (1e3,)
"""Penalties of the questions for answers to remember, as multiples of the entry's penalty: a follower is asked for
the nearest that it can do, which gives the steepest cut."""


class Memory(Run):
    """One iteration is one exchange with all agents that do not lead, and the joint solves that follow it."""

    KEPT = (
        *Run.KEPT,
        *["drift", "price", "values", "followers", "target", "seen", "closing", "inner_iterations", "solves"],
    )

    def __init__(self, *common) -> None:
        super().__init__(*common)
        self.drift = DriftPenalty()
        self.state = initial_state(self.layout, self.settings, self.drift)
        self.drift.value = self.state.penalty.copy()
        self.state.accuracy = self.settings.final_accuracy
        self.price, self.values = self.state.price.copy(), self.state.upper.copy()
        self.certificate = Certificate(self)
        self.followers = {name: self._new_follower(name) for name in self.certificate.roles.followers}
        self.target: Found | None = None
        self.seen: Residuals | None = None
        self.closing = False
        self.inner_iterations = self.solves = 0

    def snapshot(self) -> dict[str, Any]:
        target = self.target and self.target._replace(answer=self.target.answer.told())
        return {**super().snapshot(), "target": target, "certificate": self.certificate.snapshot()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        super().restore(kept)
        self.target = kept["target"]
        self.certificate.restore(kept["certificate"])

    def _new_follower(self, name: str) -> Follower:
        groups: dict[str, list[np.ndarray]] = {}
        for (_, quantity), at in self.layout.boundary(name).slices().items():
            groups.setdefault(quantity, []).append(np.arange(at.start, at.stop))
        at = self.layout.entries(name)
        return Follower(at, [np.concatenate(parts) for parts in groups.values()], self.state.penalty[at])

    def iterate(self) -> Status:
        self.state.iteration += 1
        last = self.state.iteration == self.settings.max_iterations and self.certificate.agreed()
        if self.closing or last:
            done = self.certificate.hand_out() or (self.closing and not self.certificate.provable())
            self.solves, self.closing = len(self.certificate.asked), False
        else:
            done = self.exchange()
            if not done:
                self.lead()
        self.record()
        self.look_for_conflict()
        limit = self.limits()
        if done:
            return Status.CERTIFIED if self.certificate.provable() else Status.CONVERGED
        return limit

    # ------------------------------------------------------------ one exchange

    def exchange(self) -> bool:
        """Every agent's questions in one message; what their answers teach. Whether the last schedule, which the
        agents follow now, has turned out to be a solution."""
        certificate = self.certificate
        prices = certificate.prices_to_prove(self.price)
        questions = {name: self.questions(name, prices) for name in certificate.asked}
        answers = self.ask_batches(questions, "agents", check=False)
        self.solves = sum(len(given) for given in answers.values())
        self.inner_iterations = sum(answer.inner_iterations for given in answers.values() for answer in given)
        for name, given in answers.items():
            for question, answer in zip(questions[name], given, strict=True):
                if certificate.learn(name, question, answer) and name in self.followers:
                    self.learn_cut(name, question, answer)
        certificate.prove(prices, answers)
        return certificate.take_held({name: given[-1] for name, given in answers.items()})

    def questions(self, name: str, prices: list[np.ndarray]) -> list[Question]:
        """What is asked last is what the agent holds: the schedule."""
        ask, schedule, penalty = self.certificate.question, self.certificate.schedule, self.state.penalty
        follows = name in self.followers
        batch = [ask(name, price, self.values, 0.0) for price in prices]
        for share in FOLLOWER_NEAR_VALUES if follows else NEAR_VALUES:
            batch.append(ask(name, self.price, self.values, share * penalty))
        if self.target is not None:
            if follows:
                batch.append(ask(name, self.target.price, self.target.mixed, np.inf))
            for share in FOLLOWER_NEAR_TARGET if follows else NEAR_TARGET:
                batch.append(ask(name, self.target.price, self.target.mixed, share * penalty))
        if schedule is not None:
            batch.append(ask(name, schedule.price, schedule.mixed, np.inf))
        return batch

    def learn_cut(self, name: str, question: Question, answer: Answer) -> None:
        """A forced answer has no slope to learn."""
        if np.isfinite(question.penalty).all():
            self.followers[name].add_cut(question, answer)
            if question.penalty.any():
                self.followers[name].move_to(question, answer)

    # ------------------------------------------------------------ joint solves

    def lead(self) -> None:
        """The next price and values, the next target, and the best schedule of what is remembered."""
        began, certificate = time.perf_counter(), self.certificate
        cuts = {name: follower.cuts() for name, follower in self.followers.items()}
        soft = certificate.solve(self.price, firm=False, cuts=cuts)
        if soft is None:
            raise SolverError(
                f"the joint solve of {', '.join(certificate.roles.leads)} ended without an answer: their limits may "
                "contradict each other, or their programs' scales may be far from the sizes of their values"
            )
        self.seen = self.residuals(soft)
        self.price, self.values = soft.price, soft.values
        target = certificate.solve(self.price, firm=True, cuts=cuts) if cuts else None
        schedule = certificate.find_schedule(self.price)
        self.target = target or schedule
        mixes = [found.answer.mix for found in (soft, target, schedule) if found is not None]
        for name, kept in certificate.remembered.items():
            used = [mix[name] for mix in mixes if name in mix]
            if used:
                kept.forget_idle(used)
        self.state.penalty = self.drift.update((soft.mixed - soft.values) / self.layout.scale)
        self.closing = certificate.ready() if certificate.provable() else self.settled(soft)
        self.seconds["operators"] += time.perf_counter() - began

    def settled(self, soft: Found) -> bool:
        """Without costs or bounds there is no proof. Boyd's test and the mismatch test decide, and whether the schedule
        costs what the soft step does, by the estimates that stand for costs."""
        certificate, schedule = self.certificate, self.certificate.schedule
        if not (certificate.standing and certificate.agreed() and certificate.joint.model_error() <= 1.0):
            return False
        dearer = abs(schedule.total_eur - soft.total_eur)
        allowed = self.settings.optimality_tolerance * updates.least_turnover(self.state, self.layout)
        return self.seen.passed(self.settings) and dearer <= allowed

    def residuals(self, soft: Found) -> Residuals:
        """Boyd's, of the soft step: mixes on one side, the leads' values on the other."""
        lower = np.zeros(self.layout.size, bool)
        for name in self.certificate.roles.remembered:
            lower[self.layout.entries(name)] = self.layout.boundary(name).sign > 0
        ends = np.where(lower, soft.mixed, soft.values), np.where(lower, soft.values, soft.mixed)
        step = updates.scaled_dual_step(self.state.penalty, soft.values, self.values, self.layout)
        state = replace(self.state, lower=ends[0], upper=ends[1], price=soft.price)
        return updates.residuals(state, step, self.layout, self.settings)

    def record(self) -> None:
        state, certificate = self.state, self.certificate
        proof, gap = certificate.proof, certificate.gap()
        state.price = self.price if certificate.bounds.price is None else certificate.bounds.price
        error = self.seen.objective_error if gap is None else gap
        self.history.append(
            Progress(
                iteration=state.iteration,
                residuals=replace(self.seen, mismatch=certificate.mismatch(), objective_error=error),
                penalty=float(np.exp(np.mean(np.log(state.penalty / unit_penalty(self.layout))))),
                objective_eur=proof.upper_eur,
                model_error=certificate.joint.model_error(),
                accuracy=state.accuracy,
                inner_iterations=self.inner_iterations,
                seconds=time.perf_counter() - self.began,
                solves=self.solves,
                bytes=self.transport.traffic.bytes,
                lower_bound_eur=proof.lower_eur,
                upper_bound_eur=proof.upper_eur,
                certified_gap=gap,
                waits_for="proof" if certificate.provable() else self.seen.furthest(self.settings),
            )
        )
