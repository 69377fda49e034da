"""The scheme "memory": the lead operators optimise jointly over their own variables and convex combinations of
the agents' past answers; what they find is a schedule and an upper bound, prices alone give the lower bound.

One exchange: every agent answers a few questions in one message, then the leads solve twice.
    prices      argmin cost + price . b, at the price and halfway to the best one: proven bounds, and answers to keep
    answers     near the leads' values at the price, near the last schedule at its own price: answers to keep
    schedule    followed exactly: what it costs, so the upper bound; the agents now hold it
    soft        ADMM's step with a mix of answers in place of the latest one: the next price and values
    firm        the same with agreement: the next schedule and its own price
A follower (an agent that supplies, such as a transmission operator) is known by supporting planes of its cost
instead. The run stops when upper and lower bound meet; without costs, by Boyd's test.
"""

from __future__ import annotations

import time
from dataclasses import replace
from enum import Enum
from typing import NamedTuple

import numpy as np

from admm import updates
from admm.errors import SolverError
from admm.initial import initial_state
from admm.interfaces import Answer, Question
from admm.memory.bounds import Bounds
from admm.memory.drift import DriftPenalty
from admm.memory.joint import Joint, JointAnswer, JointQuestion
from admm.memory.remembered import Follower, Remembered
from admm.memory.roles import roles_of
from admm.penalty import unit_penalty
from admm.run import Run, check_answer
from admm.state import Progress, Residuals, Status

NEAR_VALUES, NEAR_SCHEDULE = (1.0, 0.25), (1.0, 0.2)
FOLLOWER_PULL = 10.0
"""Penalties of the questions for answers to keep, as multiples of the entry's penalty."""
LEEWAY = 20.0
"""What breaking a firm tie costs beyond the price, in units of price_scale."""
AGREED = 1e-5
"""Mismatch, as a share of scale, up to which a firm answer is a schedule that can be followed."""
MOST_CORRECTIONS = 5
"""Firm solves in a row while the leads' models still move."""


class Kind(Enum):
    """What an answer is for."""

    PRICE = "a bound at the price"
    BEST = "a bound halfway to the best price"
    KEEP = "an answer to keep"
    SCHEDULE = "the cost of the schedule"


class Asked(NamedTuple):
    kind: Kind
    question: Question


class Memory(Run):
    """One iteration is one exchange with all agents that do not lead, and the joint solves that follow it."""

    def __init__(self, *common) -> None:
        super().__init__(*common)
        layout = self.layout
        self.roles = roles_of(layout, self.sides, self.settings.lead, self.owned)
        leads = [self.owned[name] for name in self.roles.leads]
        self.joint: Joint = leads[0].join(leads, self.roles.leads, layout)
        self.drift = DriftPenalty()
        self.state = initial_state(layout, self.settings, self.drift)
        if not self.settings.initial_price:
            self.state.price = layout.price_scale.copy()
        self.price, self.values = self.state.price.copy(), self.state.upper.copy()
        self.state.accuracy = self.settings.final_accuracy
        self.remembered = {name: Remembered(layout.entries(name)) for name in self.roles.remembered}
        self.followers = {name: self._new_follower(name) for name in self.roles.followers}
        self.bounds = Bounds()
        self.schedule: JointAnswer | None = None
        self.reference = self.values
        self.held: dict[str, Answer] = {}
        self.boyd: Residuals | None = None
        self.agreed = np.inf
        self.closing, self.costs_told = False, True
        self.inner_iterations = self.solves = 0

    def _new_follower(self, name: str) -> Follower:
        boundary = self.layout.boundary(name)
        groups: dict[str, list[np.ndarray]] = {}
        for (_, quantity), at in boundary.slices().items():
            groups.setdefault(quantity, []).append(np.arange(at.start, at.stop))
        at = self.layout.entries(name)
        return Follower(at, [np.concatenate(parts) for parts in groups.values()], self.state.penalty[at])

    # ------------------------------------------------------------ one exchange

    def iterate(self) -> Status:
        self.state.iteration += 1
        self.exchange()
        done = self.finished()
        if not (done or self.at_limit()):
            self.lead()
        self.record()
        limit = self.limits()
        return Status.CONVERGED if done else limit

    def at_limit(self) -> bool:
        """Whether this is the last exchange: then the leads stay with the schedule that the agents hold."""
        settings = self.settings
        over = time.perf_counter() - self.began >= (settings.time_limit_seconds or np.inf)
        return self.state.iteration >= settings.max_iterations or over

    def exchange(self) -> None:
        """Every agent's questions in one message; what their answers teach."""
        asked = {name: self.questions(name) for name in (*self.remembered, *self.followers)}
        answers = self.ask_batches({n: [a.question for a in batch] for n, batch in asked.items()}, "agents", False)
        self.solves = sum(len(given) for given in answers.values())
        self.inner_iterations = sum(answer.inner_iterations for given in answers.values() for answer in given)
        self.held = {}
        bounds: dict[Kind, list[float | None]] = {Kind.PRICE: [], Kind.BEST: []}
        for name, batch in asked.items():
            for (kind, question), answer in zip(batch, answers[name], strict=True):
                if kind in bounds:
                    bounds[kind].append(answer.bound_eur if answer.status.usable else None)
                self.learn(name, kind, question, answer)
        halfway = self.halfway()  # before a better price is known
        for kind, price in ((Kind.PRICE, self.price), (Kind.BEST, halfway)):
            if bounds[kind]:
                self.bounds.take_lower(price, bounds[kind], self.joint)
        self.closing = False
        self.take_held()

    def take_held(self) -> None:
        """What the agents hold now, and what it costs: the upper bound, where all of them follow the schedule."""
        if self.schedule is None:
            return
        state, layout = self.state, self.layout
        state.lower, state.upper = self.schedule.values.copy(), self.schedule.values.copy()
        for name in (*self.remembered, *self.followers):
            at, lower = layout.entries(name), layout.boundary(name).sign > 0
            values = self.held[name].values if name in self.held else self.reference[at]
            state.lower[at[lower]], state.upper[at[~lower]] = values[lower], values[~lower]
        self.bounds.upper_eur = None
        costs = [answer.cost_eur for answer in self.held.values()]
        if self.all_hold() and self.agreed <= AGREED and None not in costs:
            self.bounds.upper_eur = float(sum(costs)) + self.schedule.cost_eur

    def all_hold(self) -> bool:
        return len(self.held) == len(self.remembered) + len(self.followers)

    def halfway(self) -> np.ndarray:
        """Between the price and the best one so far."""
        return self.price if self.bounds.price is None else 0.5 * (self.price + self.bounds.price)

    def questions(self, name: str) -> list[Asked]:
        """The schedule comes last: what an agent is asked last is what it holds."""
        follower, schedule = name in self.followers, self.schedule
        if self.closing:
            return [self._asked(name, Kind.SCHEDULE, schedule.price, self.reference, np.inf)]
        batch = [self._asked(name, Kind.PRICE, self.price, self.values, 0.0)]
        if self.bounds.price is not None and not np.array_equal(self.price, self.bounds.price):
            batch.append(self._asked(name, Kind.BEST, self.halfway(), self.values, 0.0))
        for share in (FOLLOWER_PULL,) if follower else NEAR_VALUES:
            batch.append(self._asked(name, Kind.KEEP, self.price, self.values, share))
        if schedule is not None:
            for share in () if follower else NEAR_SCHEDULE:
                batch.append(self._asked(name, Kind.KEEP, schedule.price, self.reference, share))
            batch.append(self._asked(name, Kind.SCHEDULE, schedule.price, self.reference, np.inf))
        return batch

    def _asked(self, name: str, kind: Kind, price: np.ndarray, reference: np.ndarray, share: float) -> Asked:
        at, sign = self.layout.entries(name), self.layout.boundary(name).sign
        penalty = np.full(at.size, share) if share in (0.0, np.inf) else share * self.state.penalty[at]
        question = Question(
            self.state.iteration, sign * price[at], reference[at], penalty, accuracy=self.state.accuracy
        )
        return Asked(kind, question)

    def learn(self, name: str, kind: Kind, question: Question, answer: Answer) -> None:
        """Keep what is worth keeping. Only the price alone and the schedule may have no usable answer."""
        self.costs_told &= answer.cost_eur is not None or not answer.status.usable
        if not answer.status.usable:
            if kind is Kind.KEEP:
                check_answer(name, answer, question.price.size)
            return
        if kind is Kind.SCHEDULE:
            self.held[name] = answer
        if name in self.remembered:
            self.remembered[name].add(question, answer)
        elif kind is not Kind.SCHEDULE:
            self.followers[name].add_cut(question, answer)
            if kind is Kind.KEEP:
                self.followers[name].move_to(question, answer)

    # ------------------------------------------------------------ joint solves

    def lead(self) -> None:
        """The soft solve moves price and values, the firm one finds the next schedule."""
        began = time.perf_counter()
        soft = self.solve(firm=False)
        answered = self.mix(soft)
        self.observe(answered, soft)
        self.price, self.values = soft.price, soft.values
        self.schedule = self.firm_schedule()
        for name, kept in self.remembered.items():
            kept.forget_idle([soft.mix[name], self.schedule.mix[name]])
        self.state.penalty = self.drift.update((answered - soft.values) / self.layout.scale)
        self.seconds["operators"] += time.perf_counter() - began

    def solve(self, firm: bool) -> JointAnswer:
        columns = {name: kept.columns() for name, kept in self.remembered.items()}
        cuts = {name: follower.cuts() for name, follower in self.followers.items()}
        leeway = LEEWAY * self.layout.price_scale
        answer = self.joint.solve(JointQuestion(columns, cuts, self.price, self.state.penalty, leeway, firm))
        if answer is None:
            raise SolverError(
                f"the joint solve of {', '.join(self.roles.leads)} ended without an answer: their own limits may "
                "contradict each other, or their programs' scales may be far from the sizes of their values"
            )
        return answer

    def mix(self, answer: JointAnswer) -> np.ndarray:
        """What the remembered agents' mixes give at their entries, the leads' values elsewhere, shape (n,)."""
        values = answer.values.copy()
        for name, kept in self.remembered.items():
            values[kept.entries] = answer.mix[name] @ np.array(kept.values)
        return values

    def firm_schedule(self) -> JointAnswer:
        """The next schedule, at operating points of the leads that are its own."""
        for _ in range(MOST_CORRECTIONS):
            firm = self.solve(firm=True)
            if not self.joint.adopt(firm):
                break
            self.bounds.rebase(self.joint)
        self.reference = self.mix(firm)
        self.agreed = float(np.max(np.abs(self.reference - firm.values) / self.layout.scale))
        self.take_mixed_cost(firm)
        return firm

    def take_mixed_cost(self, firm: JointAnswer) -> None:
        """Where nobody follows, the mixed costs are an upper bound already; then one exchange hands out the schedule."""
        if self.followers or self.agreed > AGREED or not self.costs_told:
            return
        mixed = [firm.mix[name] @ np.array(kept.cost_eur) for name, kept in self.remembered.items()]
        self.bounds.upper_eur = float(sum(mixed)) + firm.cost_eur
        self.closing = self.certified()

    # ------------------------------------------------------------- what is seen

    def observe(self, answered: np.ndarray, soft: JointAnswer) -> None:
        """Boyd's residuals of the soft step. Before anything is held, its values stand for what agents hold."""
        layout, state = self.layout, self.state
        lower = np.zeros(layout.size, bool)
        for name in self.roles.remembered:
            lower[layout.entries(name)] = layout.boundary(name).sign > 0
        seen = replace(
            state,
            lower=np.where(lower, answered, soft.values),
            upper=np.where(lower, soft.values, answered),
            price=soft.price,
        )
        step = updates.scaled_dual_step(state.penalty, soft.values, self.values, layout)
        self.boyd = updates.residuals(seen, step, layout, self.settings)
        if not self.held:
            state.lower, state.upper = seen.lower, seen.upper

    def turnover_eur(self) -> float:
        return updates.least_turnover(self.state, self.layout)

    def certified_gap(self) -> float | None:
        gap = self.bounds.gap_eur()
        return None if gap is None else gap / self.turnover_eur()

    def certified(self) -> bool:
        gap = self.certified_gap()
        return gap is not None and gap <= self.settings.optimality_tolerance

    def mismatch(self) -> float:
        return float(np.abs(updates.scaled_mismatch(self.state, self.layout)).max())

    def finished(self) -> bool:
        """Whether what the agents hold is a schedule that is proven or, where costs are not told, that Boyd's test
        passes."""
        if not self.all_hold() or self.mismatch() > self.settings.consensus_tolerance or self.joint.model_error() > 1:
            return False
        return self.certified() if self.costs_told else self.boyd is not None and self.boyd.passed(self.settings)

    def record(self) -> None:
        state, bounds = self.state, self.bounds
        state.price = self.price if bounds.price is None else bounds.price
        seen = self.boyd or updates.residuals(state, np.zeros(self.layout.size), self.layout, self.settings)
        gap = self.certified_gap()
        error = seen.objective_error if gap is None else gap
        self.history.append(
            Progress(
                iteration=state.iteration,
                residuals=replace(seen, mismatch=self.mismatch(), objective_error=error),
                penalty=float(np.exp(np.mean(np.log(state.penalty / unit_penalty(self.layout))))),
                objective_eur=bounds.upper_eur,
                model_error=self.joint.model_error() if self.held else 0.0,
                accuracy=state.accuracy,
                inner_iterations=self.inner_iterations,
                seconds=time.perf_counter() - self.began,
                solves=self.solves,
                bytes=self.transport.traffic.bytes,
                lower_bound_eur=bounds.lower_eur,
                upper_bound_eur=bounds.upper_eur,
                certified_gap=gap,
            )
        )
