"""A proof of how good the remembered answers are: bounds from prices alone, a schedule from mixes of answers.

Every answer of an agent is a point of its own feasible set, and so is every convex combination of its answers, at no
more than the combination of their costs. The lead operators look for the combinations, one an agent, with which
their own limits hold: that is a schedule, and its cost an upper bound. Bounds of all agents at one price add up to a
lower bound (weak duality); each agent proves its own, whatever its solver left undone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from admm import updates
from admm.interfaces import Answer, AnswerStatus, Question
from admm.memory.bounds import Bounds
from admm.memory.joint import Cuts, Joint, JointAnswer, JointQuestion
from admm.memory.remembered import Remembered
from admm.memory.roles import Roles, roles_of
from admm.run import Run, check_answer

LEEWAY = 20.0
"""What breaking a firm tie costs beyond the price, in units of price_scale."""
ALARM = 0.1
"""Bounds that cross by more than this share of the tolerance prove nothing but answers that are too coarse."""
AGREED = 1e-5
"""Mismatch, as a share of scale, up to which a firm answer is a schedule."""
PATIENCE = 20
"""Rounds in a row without any lower bound after which none is waited for."""
MOST_CORRECTIONS, NEAR = 4, 5.0
"""Solves in a row while the leads' models still move, and the multiple of the tolerated gap from where on."""

KEPT = ("remembered", "bounds", "proof", "standing", "costs_told", "_fruitless")
"""Attributes of a certificate that change."""


class Found(NamedTuple):
    """An answer of the leads with what its mixes gave then. mixed: (n,), the mixes' values at the entries of their
    agents, the leads' elsewhere. mixed_eur: the mixes of costs."""

    answer: JointAnswer
    mixed: np.ndarray
    mixed_eur: float

    @property
    def values(self) -> np.ndarray:
        return self.answer.values

    @property
    def price(self) -> np.ndarray:
        return self.answer.price

    @property
    def total_eur(self) -> float:
        return self.mixed_eur + self.answer.cost_eur


class Certificate:
    """What a run has proven, and the schedule that it is proven for, whose values it puts into the run's state."""

    def __init__(self, run: Run) -> None:
        self.run, self.layout, self.settings = run, run.layout, run.settings
        self.roles: Roles = roles_of(run.layout, run.sides, run.settings.lead, run.owned)
        leads = [run.owned[name] for name in self.roles.leads]
        self.joint: Joint = leads[0].join(leads, self.roles.leads, run.layout)
        self.asked = self.roles.remembered + self.roles.followers
        self.remembered = {name: Remembered(self.layout.entries(name)) for name in self.asked}
        self.bounds = Bounds()
        self.proof = self.bounds.proof()
        self.schedule: Found | None = None
        self.standing, self.costs_told, self._fruitless = False, True, 0

    def snapshot(self) -> dict[str, Any]:
        """All that changes, see `admm.snapshot`. What the leads keep to themselves is with the leads."""
        kept = {name: getattr(self, name) for name in KEPT}
        schedule = self.schedule and self.schedule._replace(answer=self.schedule.answer.told())
        return {**kept, "schedule": schedule, "joint": self.joint.snapshot()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        for name in (*KEPT, "schedule"):
            setattr(self, name, kept[name])
        self.joint.restore(kept["joint"])

    # ------------------------------------------------------------------ answers

    def learn(self, name: str, question: Question, answer: Answer) -> bool:
        """Remember an answer. Whether it could be used: a price alone or a reference to follow may have no answer, and
        where a solver has failed on one question, what others taught is enough."""
        if not answer.status.usable:
            always = question.penalty.any() and np.isfinite(question.penalty).all()
            if always and (answer.status is AnswerStatus.INFEASIBLE or not self.remembered[name].values):
                check_answer(name, answer, question.price.size)
            return False
        self.costs_told &= answer.cost_eur is not None
        self.remembered[name].add(question, answer)
        return True

    def question(self, name: str, price: np.ndarray, reference: np.ndarray, penalty: float | np.ndarray) -> Question:
        """price, reference: (n,) over the layout; penalty: a number, or (n,) over the layout."""
        at, sign, now = self.layout.entries(name), self.layout.boundary(name).sign, self.run.state
        pull = np.full(at.size, penalty) if np.isscalar(penalty) else penalty[at]
        return Question(now.iteration, sign * price[at], reference[at], pull, accuracy=now.accuracy)

    def prices_to_prove(self, price: np.ndarray) -> list[np.ndarray]:
        """The price, and halfway to the best one so far."""
        best = self.bounds.price
        known = best is None or np.array_equal(best, price)
        return [price] if known else [price, 0.5 * (price + best)]

    def prove(self, prices: Sequence[np.ndarray], answers: Mapping[str, Sequence[Answer]]) -> None:
        """answers: of all agents that do not lead, first those to the prices alone, in their order."""
        for i, price in enumerate(prices):
            bounds = [given[i].bound_eur if given[i].status.usable else None for given in answers.values()]
            self.bounds.take_lower(price, bounds, self.joint)
        self.proof = self.bounds.proof()
        self._fruitless = self._fruitless + 1 if self.bounds.lower_eur is None else 0

    # ------------------------------------------------------------- joint solves

    def solve(self, price: np.ndarray, firm: bool, cuts: Mapping[str, Cuts] | None = None) -> Found | None:
        """None where no usable answer was found. cuts: of followers that are known by them, not by their answers."""
        cuts = cuts or {}
        columns = {name: kept.columns() for name, kept in self.remembered.items() if name not in cuts}
        leeway, penalty = LEEWAY * self.layout.price_scale, self.run.state.penalty
        answer = self.joint.solve(JointQuestion(columns, cuts, price, penalty, leeway, firm))
        return None if answer is None else self._found(answer)

    def _found(self, answer: JointAnswer) -> Found:
        values, cost = answer.values.copy(), 0.0
        for name, shares in answer.mix.items():
            kept = self.remembered[name]
            values[kept.entries] = shares @ np.array(kept.values)
            cost += float(shares @ np.array(kept.cost_eur))
        return Found(answer, values, cost)

    def find_schedule(self, price: np.ndarray) -> Found | None:
        """The best schedule, None where none was found. It stands if the leads' models have not moved away from where
        it was found; far from the end one correction of the models is enough."""
        self.standing = False
        for _ in range(MOST_CORRECTIONS):
            self.schedule = self.solve(price, firm=True)
            if self.schedule is None:
                return None
            self.standing = not self.joint.adopt(self.schedule.answer)
            if self.standing:
                break
            self.bounds.rebase(self.joint)
            if not self._near():
                break
        self._take_values({name: self.schedule.mixed[kept.entries] for name, kept in self.remembered.items()})
        self._take_upper(self.schedule.mixed_eur if self.costs_told and self.standing else None)
        return self.schedule

    def _near(self) -> bool:
        """Whether the schedule found last would nearly do."""
        if self.bounds.lower_eur is None:
            return False
        gap = self.schedule.total_eur - self.bounds.lower_eur
        return gap <= NEAR * self.settings.optimality_tolerance * self._turnover_eur()

    # ------------------------------------------------------------- the schedule

    def hand_out(self) -> bool:
        """Every agent follows the schedule. Whether what they hold then is a solution."""
        found = self.schedule
        questions = {name: [self.question(name, found.price, found.mixed, np.inf)] for name in self.asked}
        answers = self.run.ask_batches(questions, "agents", check=False)
        return self.take_held({name: given[0] for name, given in answers.items()})

    def take_held(self, held: Mapping[str, Answer]) -> bool:
        """held: answers to the schedule. Whether all agents follow it, and it is a solution."""
        if not self.standing or self.schedule is None or not all(answer.status.usable for answer in held.values()):
            return False
        self._take_values({name: answer.values for name, answer in held.items()})
        costs = [answer.cost_eur for answer in held.values()]
        self._take_upper(None if None in costs else sum(costs))
        return self.solved()

    def _take_values(self, values: Mapping[str, np.ndarray]) -> None:
        """The schedule's values at both ends: {agent: (n of the agent,)}, the leads' at their own."""
        state = self.run.state
        state.lower, state.upper = self.schedule.values.copy(), self.schedule.values.copy()
        for name, here in values.items():
            at, lower = self.layout.entries(name), self.layout.boundary(name).sign > 0
            state.lower[at[lower]], state.upper[at[~lower]] = here[lower], here[~lower]

    def _take_upper(self, agents_eur: float | None) -> None:
        agreed = agents_eur is not None and self.agreed()
        self.bounds.upper_eur = agents_eur + self.schedule.answer.cost_eur if agreed else None
        self.proof = self.bounds.proof()

    # ----------------------------------------------------------- what is proven

    def mismatch(self) -> float:
        return float(np.abs(updates.scaled_mismatch(self.run.state, self.layout)).max())

    def agreed(self) -> bool:
        return self.schedule is not None and self.mismatch() <= AGREED

    def provable(self) -> bool:
        """Whether a proof is to be had: every agent tells its cost and, once the price is near enough, a bound."""
        return self.costs_told and (self.bounds.lower_eur is not None or self._fruitless < PATIENCE)

    def ready(self) -> bool:
        """Whether the schedule is worth handing out."""
        return self.standing and self.agreed() and self.solved()

    def solved(self) -> bool:
        """Whether gap, mismatch and models are within their tolerances."""
        gap = self.gap()
        tolerance = self.settings.optimality_tolerance
        proven = gap is not None and -ALARM * tolerance <= gap <= tolerance
        close = proven and self.mismatch() <= self.settings.consensus_tolerance and self.joint.model_error() <= 1.0
        return close and self.run.tests_count(max(0.0, self.proof.gap_eur))

    def gap(self) -> float | None:
        """Of the bounds, as a share of the turnover."""
        return None if self.proof.gap_eur is None else self.proof.gap_eur / self._turnover_eur()

    def _turnover_eur(self) -> float:
        return updates.least_turnover(self.run.state, self.layout)
