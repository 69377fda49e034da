"""The whole case as one QP by an independent solver, with the same flow corrections as in the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from admm import SolverError
from admm.couplings import Layout
from networks.case import Case
from networks.distribution import DistributionAgent
from subproblems.monolithic import MonolithicSolution, solve_monolithic

EXACT_PU, EXACT_LOSS_SHARE = 1e-8, 1e-6
"""Flow errors at which the corrections end: far below what any run is asked for."""
MOST_CORRECTIONS = 20


@dataclass(frozen=True)
class Centralised:
    """The optimum, how many corrections it took, and the flow error left (pu)."""

    solution: MonolithicSolution
    corrections: int
    flow_error_pu: float
    seconds: float


def solve_centralised(case: Case, report: Callable[[str], None] = lambda words: None) -> Centralised:
    """Solve, make the flows exact at the solution, solve again, until they are exact."""
    began = time.perf_counter()
    agents = {name: case.build_agent(name) for name in case.agents}
    layout = Layout(case.couplings)
    for name, agent in agents.items():
        agent.prepare(layout.boundary(name))
    operators = {name: agent for name, agent in agents.items() if isinstance(agent, DistributionAgent)}
    programs = {name: agent.program.linearised() if name in operators else agent.qp for name, agent in agents.items()}
    for correction in range(MOST_CORRECTIONS):
        solution = solve_monolithic(programs, case.couplings)
        corrected = {name: agent.program.corrected(solution.x[name]) for name, agent in operators.items()}
        errors = [error for _, of_operator in corrected.values() for error in of_operator.values()]
        worst_pu = max((error.voltage_pu for error in errors), default=0.0)
        report(f"  correction {correction}: objective {solution.objective_eur:.4f} EUR, flow error {worst_pu:.1e} pu")
        if all(error.multiple(EXACT_PU, EXACT_LOSS_SHARE) <= 1.0 for error in errors):
            return Centralised(solution, correction, worst_pu, time.perf_counter() - began)
        programs |= {name: program for name, (program, _) in corrected.items()}
    raise SolverError(f"the flows are not exact after {MOST_CORRECTIONS} corrections (error {worst_pu:.1e} pu)")
