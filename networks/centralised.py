"""The whole case as one QP by an independent solver, with the same flow corrections as in the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from admm import InfeasibleError, SolverError
from admm.couplings import Layout
from admm.updates import turnover_floor
from networks.case import Case, CaseAgent
from networks.flow_agent import FlowAgent
from networks.flow_program import FlowProgram
from subproblems import QPAgent, QuadraticProgram
from subproblems.conflict import find_conflict, in_numbers
from subproblems.monolithic import MonolithicSolution, solve_monolithic

EXACT = 0.02
"""Flow errors at which the corrections end, as a share of those above which a run corrects."""
MOST_CORRECTIONS = 80
HIDDEN_SHARE = 1e-5
"""Share of the turnover that the damping of corrections may hide of the optimum."""
ROW_ACCURACY = 1e-7
"""Violation of a limit that is left out, per unit, above which it is taken in."""


@dataclass(frozen=True)
class Centralised:
    """The optimum, the programs that it solves, how many corrections it took, and the flow error left, as a share of
    the errors above which a run corrects (1e-5 pu, 1e-4 of losses, 1e-4 bar)."""

    solution: MonolithicSolution
    programs: dict[str, QuadraticProgram]
    corrections: int
    flow_error: float
    seconds: float


def solve_centralised(
    case: Case, report: Callable[[str], None] = lambda words: None, agents: Mapping[str, CaseAgent] | None = None
) -> Centralised:
    """Solve, make the flows exact at the solution, solve again, until they are exact.

    As in the run, limits of a network are added when a solution breaks them: of thousands a few bind.
    agents: others than the case's own, with the same couplings.
    """
    began = time.perf_counter()
    agents = agents or {name: case.build_agent(name) for name in case.agents}
    programs, operators = _programs(case, agents)
    corrections, floor_eur = 0, turnover_floor(Layout(case.couplings))
    while corrections <= MOST_CORRECTIONS:
        try:
            solution = solve_monolithic(programs, case.couplings)
        except InfeasibleError as error:
            for agent in agents.values():
                if isinstance(agent, QPAgent):
                    agent.conflict = find_conflict(agent.qp)
            raise in_numbers(error, agents) from None
        broken = [operator for operator in operators.values() if operator.add_rows(solution.x[operator.name])]
        if not broken:
            hidden = sum(operator.hidden_eur(solution.x[operator.name]) for operator in operators.values())
            worst = max((operator.correct(solution.x[operator.name]) for operator in operators.values()), default=0.0)
            words = f"objective {solution.objective_eur:.4f} EUR, flow error {worst:.1e} of what a run corrects"
            report(f"  correction {corrections}: {words}")
            if worst <= EXACT and hidden <= HIDDEN_SHARE * max(solution.turnover_eur, floor_eur):
                return Centralised(solution, programs, corrections, worst, time.perf_counter() - began)
            corrections += 1
        programs |= {name: operator.linearised() for name, operator in operators.items()}
    raise SolverError(f"the flows are not exact after {MOST_CORRECTIONS} corrections ({worst:.1e} of what is allowed)")


def _programs(case: Case, agents: Mapping[str, CaseAgent]) -> tuple[dict[str, QuadraticProgram], dict[str, _Operator]]:
    """Every agent's program, and what keeps those with flows exact."""
    layout = Layout(case.couplings)
    for name, agent in agents.items():
        agent.prepare(layout.boundary(name))
    operators = {n: _Operator(n, a.program) for n, a in agents.items() if isinstance(a, FlowAgent)}
    programs = {n: operators[n].linearised() if n in operators else a.qp for n, a in agents.items()}
    return programs, operators


class _Operator:
    """An operator's program at its latest operating points, with the limits that matter so far."""

    def __init__(self, name: str, program: FlowProgram) -> None:
        self.name, self._program = name, program
        self._points = program.first_points()
        program.linearised(self._points)
        self._masks = program.no_rows()

    def linearised(self) -> QuadraticProgram:
        return self._program.linearised(self._points, self._masks)

    def add_rows(self, x: np.ndarray) -> bool:
        """Take the limits that x breaks; whether there are any."""
        masks = self._program.missing_rows(x, self._masks, ROW_ACCURACY)
        if masks is not None:
            self._masks = masks
        return masks is not None

    def hidden_eur(self, x: np.ndarray) -> float:
        """Bound what the damping of corrections hides at x, EUR."""
        return self._program.hidden_eur(x)

    def correct(self, x: np.ndarray) -> float:
        """Move to the exact flows at x; how far x was from them."""
        error = self._program.correction_multiple(self._program.all_errors(x))
        self._program.damp(x, EXACT)
        self._points = self._program.points(x)
        return error
