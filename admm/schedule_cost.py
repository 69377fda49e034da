"""What a whole schedule costs: at a stop both sides agree within a tolerance only.

The objective of a stop is the sum of costs of answers that differ by the mismatch. Where a cost has a kink, the step
over it may be dearer than any price says. So at the end of a run that has converged the upper agents are held to what
the lower ones do, level by level: first those with lower agents only, then those above them. All costs then belong to
one schedule, which every limit allows; it costs at least the optimum. Answers are beside the agents' schedules: nothing
that a run leaves depends on them.

What the lower agents want may be a hair beyond a limit of the upper one, as the mismatch is not 0. Then the upper one
takes what comes closest: all quantities but the dearest give way, and if that is not enough, the dearest alone. The
lower agents are asked what they pay if they follow in turn; where one cannot, there is no such schedule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from admm.interfaces import Answer, AnswerStatus, Question, check_answer_fits
from admm.penalty import unit_penalty
from admm.plausible import check_plausible
from admm.state import ScheduleCost, Status
from admm.updates import least_turnover

if TYPE_CHECKING:
    from admm.couplings import Layout
    from admm.two_block import TwoBlock

LOOSER = 3.0
"""Accuracy of these answers over that of the stop: what is followed is no more exact than that."""
CLOSE, CLOSE_ACCURACY = 1e6, 1e-9
"""Penalty per unit on what gives way, and how exact the closest answer has to be to be no further than it must."""


def cost_of_schedule(run: TwoBlock, status: Status) -> ScheduleCost:
    """Ask for it; one exchange for every level of agents above the lowest one, more where one cannot follow."""
    if status is Status.CERTIFIED:
        objective = run.history[-1].objective_eur
        return ScheduleCost(objective, None if objective is None else 0.0)
    if status not in (Status.CONVERGED, Status.AGREED):
        return ScheduleCost(reason="the run has not converged")
    if not run.settings.schedule_cost:
        return ScheduleCost(reason="it was not asked for")
    if run.settings.scheme == "memory" or run.history[-1].objective_eur is None:
        return ScheduleCost(reason="an agent does not tell its cost")
    if run.sides.relays or run.frozen.why:
        return ScheduleCost(reason="a coupling is relayed" if run.sides.relays else "an agent is lost")
    levels = _levels(run.layout)
    if levels is None:
        return ScheduleCost(reason="agents are above and below each other in a circle")
    unable = [name for level in levels[1:] for name in level if not run.answers[name].proves]
    if unable:
        return ScheduleCost(reason=f"agent '{unable[0]}' cannot be asked beside its schedule")
    return _asked(run, levels)


def _levels(layout: Layout) -> list[list[str]] | None:
    """Agents by how many agents stand below them at most, one above the other; None where they stand in a circle."""
    below: dict[str, set[str]] = {name: set() for name in layout.agents}
    for coupling in layout.couplings:
        below[coupling.upper].add(coupling.lower)
    levels: list[list[str]] = []
    while below:
        lowest = [name for name, others in below.items() if not others & below.keys()]
        if not lowest:
            return None
        levels.append(lowest)
        below = {name: others for name, others in below.items() if name not in lowest}
    return levels


def _asked(run: TwoBlock, levels: list[list[str]]) -> ScheduleCost:
    schedule = _Schedule(run, levels[0])
    for level in levels[1:]:
        for name, answer in schedule.ask({name: schedule.question(name) for name in level}).items():
            why = schedule.unfit(name, schedule.question(name), answer)
            if not why:
                schedule.take(name, answer)
            elif not schedule.takes_the_closest(name):
                return ScheduleCost(reason=why)
    total, turnover = sum(schedule.costs_eur.values()), least_turnover(run.state, run.layout)
    return ScheduleCost(total, (total - run.history[-1].objective_eur) / turnover, change=schedule.change())


class _Schedule:
    """Carries one schedule from level to level.

    values: (n,) of all entries; those that the lowest agents want until one above takes others. costs_eur: of agents
    that keep to it.
    """

    def __init__(self, run: TwoBlock, lowest: Sequence[str]) -> None:
        self._run, self._layout, self._lowest = run, run.layout, lowest
        self._accuracy = LOOSER * run.settings.final_accuracy
        self.values = run.state.lower.copy()
        self.costs_eur = {name: run.answers[name].cost_eur for name in lowest}

    def change(self) -> float:
        """Say by how much the lowest agents give way at most, as a share of scale."""
        changed = np.abs(self.values - self._run.state.lower) / self._layout.scale
        return float(max(changed[self._layout.entries(name)].max() for name in self._lowest))

    def ask(self, questions: Mapping[str, Question]) -> dict[str, Answer]:
        """Ask several agents at once."""
        with self._run.timed("operators"):
            answers = self._run.transport.ask({name: [question] for name, question in questions.items()})
        return {name: answers[name][0] for name in questions}

    def question(self, name: str, gives_way: np.ndarray | None = None) -> Question:
        """Hold an agent to the lower ones; towards those above, the question is ADMM's own.

        gives_way: (n,), where the closest value does in place of the same one.
        """
        state, at, sign = self._run.state, self._layout.entries(name), self._layout.boundary(name).sign
        reference = np.where(sign > 0, state.upper[at], self.values[at])
        penalty = np.where(sign > 0, state.penalty[at], np.inf)
        if gives_way is not None:
            penalty = np.where(gives_way[at] & (sign < 0), CLOSE * unit_penalty(self._layout)[at], penalty)
        accuracy = self._accuracy if gives_way is None else CLOSE_ACCURACY
        return Question(state.iteration, sign * state.price[at], reference, penalty, accuracy, beside=True)

    def unfit(self, name: str, question: Question, answer: Answer) -> str:
        """Say why an answer is no part of the schedule; empty where it is."""
        check_answer_fits(name, answer, question.price.size)
        if answer.status is not AnswerStatus.SOLVED:
            why = answer.reason or f"its answer is {answer.status.name.lower()}"
            return f"'{name}' cannot follow the agents below it exactly: {why}"
        check_plausible(name, answer, self._run.boundaries[name])
        followed = np.isinf(question.penalty)
        miss = np.abs(answer.values - question.reference)[followed] / self._layout.boundary(name).scale[followed]
        if answer.cost_eur is None or miss.max(initial=0.0) > self._accuracy:
            return f"'{name}' has missed what the agents below it do, or does not tell its cost"
        return ""

    def take(self, name: str, answer: Answer, changed: bool = False) -> None:
        """Take an answer into the schedule. changed: with what it takes from the agents below."""
        at, lower = self._layout.entries(name), self._layout.boundary(name).sign > 0
        own = lower | changed
        self.values[at[own]] = np.asarray(answer.values, dtype=float)[own]
        self.costs_eur[name] = answer.cost_eur

    def takes_the_closest(self, name: str) -> bool:
        """Find what comes closest to the agents below and is followed by them; whether there is such a schedule."""
        before = self.values.copy()
        for gives_way in self._ways(name):
            question = self.question(name, gives_way)
            answer = self.ask({name: question})[name]
            if not self.unfit(name, question, answer):
                self.take(name, answer, changed=True)
                if self._is_followed(name, before):
                    return True
                self.values = before.copy()
        return False

    def _ways(self, name: str) -> list[np.ndarray]:
        """Let all quantities from below but the dearest give way, or else the dearest alone; (n,) each."""
        state, at = self._run.state, self._layout.entries(name)
        below = np.zeros(self._layout.size, dtype=bool)
        below[at[self._layout.boundary(name).sign < 0]] = True
        turnover = np.where(below, np.abs(state.price * state.upper), 0.0)
        groups = self._layout.quantity_groups().values()
        dearest = np.zeros(self._layout.size, dtype=bool)
        dearest[max(groups, key=lambda positions: turnover[positions].sum())] = True
        return [way for way in (below & ~dearest, below & dearest) if way.any()]

    def _is_followed(self, name: str, before: np.ndarray) -> bool:
        """Ask the agents below to follow what has changed; whether all can. before: (n,), the values until then."""
        changed = np.abs(self.values - before) > self._accuracy * self._layout.scale
        couplings = [block.coupling for block in self._layout.blocks if changed[block.entries].any()]
        below = dict.fromkeys(coupling.lower for coupling in couplings if coupling.upper == name)
        if not all(self._run.answers[one].proves for one in below):
            return False
        questions = {one: self._follow(one) for one in below}
        answers = self.ask(questions) if questions else {}
        if any(self.unfit(one, questions[one], answer) for one, answer in answers.items()):
            return False
        self.costs_eur |= {one: answer.cost_eur for one, answer in answers.items()}
        return True

    def _follow(self, name: str) -> Question:
        """Hold an agent to the schedule on all sides."""
        at = self._layout.entries(name)
        price = self._layout.boundary(name).sign * self._run.state.price[at]
        everywhere = np.full(at.size, np.inf)
        return Question(self._run.state.iteration, price, self.values[at], everywhere, self._accuracy, beside=True)
