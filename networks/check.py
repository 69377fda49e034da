"""Each agent on its own: does it fit its couplings, and can it answer at all? The feeders' own load, and the market."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from admm import InfeasibleError, InputError, Question
from admm.couplings import Layout
from admm.run import check_answer
from networks.base_load import BaseLoad
from networks.case import Case
from networks.market.day import check_market_case
from networks.market.rules import Clock
from networks.market.uncertainty import Uncertainty
from subproblems.conflict import in_numbers

START_PENALTY = 0.4
ACCURACY = 1e-4
"""Share of scale: whether there is an answer shows long before the answer is exact."""


def check_market(case: Case) -> None:
    """Raises InputError where `[market]` does not fit the case; nothing where the market does not know the case."""
    try:
        check_market_case(case)
    except InputError:
        return
    first, *_ = (Case(folder) for folder in case.folder.days())
    Clock.of(case.table.market, first.horizon)
    Uncertainty(case.table.market).check(first, draw=0)


def base_load_lines(case: Case) -> Iterator[str]:
    """Say what each feeder's own load alone does to it."""
    for network in case.folder.distribution:
        with case.folder.located(network.name):
            base = BaseLoad.of_model(case.distribution_model(network))
        if base.flow.converged.all():  # else its agent cannot be built, and the error says why
            yield from base.lines()


def check_agents(case: Case) -> Iterator[str]:
    """A line an agent. Raises InputError or InfeasibleError, which names the agent and the constraints in conflict."""
    layout = Layout(case.couplings)
    for name in case.agents:
        agent, boundary = case.build_agent(name), layout.boundary(name)
        agent.prepare(boundary)
        zero = np.zeros(boundary.size)
        penalty = START_PENALTY * boundary.price_scale / boundary.scale
        answer = agent.answer(Question(iteration=1, price=zero, reference=zero, penalty=penalty, accuracy=ACCURACY))
        try:
            check_answer(name, answer, boundary.size)
        except InfeasibleError as error:
            raise in_numbers(error, {name: agent}) from None
        yield f"{name:24} {boundary.size:5d} boundary values, answers in {1e3 * answer.solve_seconds:.0f} ms"
