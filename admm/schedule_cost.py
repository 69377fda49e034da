"""What the lower agents' own schedule costs: at a stop both sides agree within a tolerance only.

The objective of a stop is the sum of costs of answers that differ by the mismatch. Where a cost has a kink, the step
over it may be dearer than any price says. So at the end of a run that has converged the upper agents are held to what
the lower ones do, level by level: first those with lower agents only, then those above them. All costs then belong to
one schedule, which every limit allows; it costs at least the optimum. Answers are beside the agents' schedules: nothing
that a run leaves depends on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from admm.interfaces import Answer, AnswerStatus, Question, check_answer_fits
from admm.plausible import check_plausible
from admm.state import ScheduleCost, Status
from admm.updates import least_turnover

if TYPE_CHECKING:
    from admm.couplings import Layout
    from admm.two_block import TwoBlock

LOOSER = 3.0
"""Accuracy of these answers over that of the stop: what is followed is no more exact than that."""


def cost_of_schedule(run: TwoBlock, status: Status) -> ScheduleCost:
    """Ask for it; one exchange for every level of agents above the lowest one."""
    if status is Status.CERTIFIED:
        objective = run.history[-1].objective_eur
        return ScheduleCost(objective, None if objective is None else 0.0)
    if status is not Status.CONVERGED:
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
    values, total = run.state.lower.copy(), 0.0
    for name in levels[0]:
        total += run.answers[name].cost_eur
    for level in levels[1:]:
        questions = {name: _question(run, name, values) for name in level}
        with run.timed("operators"):
            answers = run.transport.ask({name: [question] for name, question in questions.items()})
        for name in level:
            answer = answers[name][0]
            why = _unfit(run, name, questions[name], answer)
            if why:
                return ScheduleCost(reason=why)
            at, own = run.layout.entries(name), run.layout.boundary(name).sign > 0
            values[at[own]] = np.asarray(answer.values, dtype=float)[own]
            total += answer.cost_eur
    turnover = least_turnover(run.state, run.layout)
    return ScheduleCost(total, (total - run.history[-1].objective_eur) / turnover)


def _question(run: TwoBlock, name: str, values: np.ndarray) -> Question:
    """Lower agents are followed exactly; towards those above, the question is ADMM's own."""
    state, at, sign = run.state, run.layout.entries(name), run.layout.boundary(name).sign
    reference = np.where(sign > 0, state.upper[at], values[at])
    penalty = np.where(sign > 0, state.penalty[at], np.inf)
    accuracy = LOOSER * run.settings.final_accuracy
    return Question(state.iteration, sign * state.price[at], reference, penalty, accuracy, beside=True)


def _unfit(run: TwoBlock, name: str, question: Question, answer: Answer) -> str:
    """Why an answer is no part of the schedule; empty where it is."""
    check_answer_fits(name, answer, question.price.size)
    if answer.status is not AnswerStatus.SOLVED:
        why = answer.reason or f"its answer is {answer.status.name.lower()}"
        return f"'{name}' cannot follow the agents below it exactly: {why}"
    check_plausible(name, answer, run.boundaries[name])
    followed = np.isinf(question.penalty)
    miss = np.abs(answer.values - question.reference)[followed] / run.layout.boundary(name).scale[followed]
    if answer.cost_eur is None or miss.max(initial=0.0) > question.accuracy:
        return f"'{name}' has missed what the agents below it do, or does not tell its cost"
    return ""
