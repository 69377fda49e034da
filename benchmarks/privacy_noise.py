"""The main case with communities that tell noisy values: what a privacy budget costs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

import admm
from admm.output import versions
from admm.privacy import Noise, Noisy
from benchmarks.measure import machine
from benchmarks.reward_tariffs import CONFLICT, held_program
from networks.case import Case, load_case
from networks.centralised import solve_centralised
from networks.market.tariffs import Response
from subproblems import QPAgent

CASE = "ieee33-10ec"
SEEDS = 3
HOUSEHOLD_MW = 1e-3
"""What one household takes, in the root mean square over periods and quantities."""
QUANTITIES = ("p_mw", "flex_up_mw", "flex_down_mw")
ENERGY = "p_mw"
BUDGETS = ((None, 50), (1e4, 50), (1e3, 50), (1e2, 50), (1e2, 15), (10.0, 50), (10.0, 15), (1.0, 50))
"""epsilon and the answers that it is for: at most so many exchanges."""
KW_PER_MW = 1e3


@dataclass
class NoiseRow:
    """Shares as the note of the table says; None where a run has no such number."""

    case: str
    epsilon: float | None
    answers: int
    seed: int | None
    epsilon_of_one_answer: float | None = None
    epsilon_of_anything: float | None = None
    sigma_kw: float = 0.0
    exchanges: int = 0
    status: str = ""
    mismatch: float | None = None
    imbalance: float | None = None
    cost_above_optimum: float | None = None
    fits: str = "yes"
    seconds: float = 0.0
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


def noise_rows(seeds: int, solver: str, cap: int | None = None) -> Iterator[NoiseRow]:
    """A row a budget and seed. cap: fewer exchanges than the budget is for."""
    case = load_case(CASE)
    for epsilon, answers in BUDGETS:
        for seed in range(1 if epsilon is None else seeds):
            yield noise_row(case, epsilon, answers, seed, solver, cap)


def noise_row(
    case: Case, epsilon: float | None, answers: int, seed: int, solver: str, cap: int | None = None
) -> NoiseRow:
    row = NoiseRow(case.name, epsilon, answers, None if epsilon is None else seed)
    own = {name: case.build_agent(name, solver) for name in case.agents}
    agents: dict[str, admm.Agent] = dict(own)
    if epsilon is not None:
        noise = Noise(dict.fromkeys(QUANTITIES, HOUSEHOLD_MW), epsilon, answers)
        agents |= {name: Noisy(own[name], noise, 1000 * seed + i) for i, name in enumerate(case.communities)}
    settings = admm.Settings(max_iterations=min(answers, cap or answers))
    began = time.perf_counter()
    result = admm.solve(agents, case.couplings, settings, admm.InProcessTransport(threads=1))
    row.seconds = round(time.perf_counter() - began, 2)
    row.exchanges, row.status, row.mismatch = result.iterations, result.status.name.lower(), result.residuals.mismatch
    noisy = [agent for agent in agents.values() if isinstance(agent, Noisy)]
    if noisy:
        row.epsilon_of_one_answer = noisy[0].epsilon_of(1)
        row.epsilon_of_anything = max(agent.epsilon_of_anything(answers) for agent in noisy)
        row.sigma_kw = KW_PER_MW * float(noisy[0].sigma[0])
    drawn = {name: _drawn(own[name]) for name in case.communities}
    row.imbalance = _imbalance(drawn, result)
    row.cost_above_optimum, row.fits = _cost_above_optimum(case, drawn, solver)
    return row


def _drawn(agent: QPAgent) -> Response:
    """What a community's own schedule really draws and costs."""
    return Response(agent.cost_eur(), {key: agent.x[at] for key, at in agent.qp.boundary.items()})


def _imbalance(drawn: Mapping[str, Response], result: admm.Result) -> float:
    """Energy drawn otherwise than the operator granted it, as a share of all that is drawn."""
    pairs = [
        (values, result.boundary[coupling][quantity].upper)
        for response in drawn.values()
        for (coupling, quantity), values in response.values.items()
        if quantity == ENERGY
    ]
    return sum(np.abs(own - granted).sum() for own, granted in pairs) / sum(np.abs(own).sum() for own, _ in pairs)


def _cost_above_optimum(case: Case, drawn: Mapping[str, Response], solver: str) -> tuple[float | None, str]:
    """Of what is drawn, with the operators' best for it, as a share of turnover; None, and why it does not fit."""
    reference = case.folder.reference()[case.name]
    held = {name: QPAgent(held_program(name, own), solver) for name, own in drawn.items()}
    operators = {name: case.build_agent(name, solver) for name in case.operators}
    try:
        found = solve_centralised(case, agents=held | operators)
    except admm.InfeasibleError as error:
        return None, str(error).partition(CONFLICT)[2].partition(";")[0] or str(error)
    total = found.solution.objective_eur + sum(own.cost_eur for own in drawn.values())
    return (total - reference["objective_eur"]) / reference["turnover_eur"], "yes"
