"""What is measured on: coordination problems with a known optimum, by name.

A subject is anything with the attributes of `Subject`; `Problem` is one made of programs, `CaseSubject` a
bundled case, whose family the registry names. Names are FAMILY-INSTANCE or CASE:VARIANT; what is tuned "per family" is
tuned over one family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import admm
from networks.case import load_case
from subproblems import QPAgent, QuadraticProgram
from subproblems.monolithic import solve_monolithic


class Subject(Protocol):
    """optimum_eur, turnover_eur: the optimum and its sum of |price x value|. seed: None where nothing is random."""

    name: str
    family: str
    couplings: tuple[admm.Coupling, ...]
    optimum_eur: float
    turnover_eur: float
    seed: int | None

    def agents(self, solver: str) -> Mapping[str, admm.Agent]:
        """Fresh agents: nothing of an earlier run is left in them."""


SubjectMaker = Callable[[], Subject]


@dataclass(frozen=True)
class Problem:
    """programs: {agent: its program}. optimum and boundary turnover in EUR, as found centrally at 1e-9."""

    name: str
    programs: Mapping[str, QuadraticProgram]
    couplings: tuple[admm.Coupling, ...]
    optimum_eur: float
    turnover_eur: float
    seed: int | None = None

    @property
    def family(self) -> str:
        """The name without its last part, which is the instance."""
        return self.name.rpartition("-")[0] or self.name

    def agents(self, solver: str = "osqp") -> dict[str, QPAgent]:
        return {name: QPAgent(program, solver=solver) for name, program in self.programs.items()}


def solved_problem(
    name: str, programs: Mapping[str, QuadraticProgram], couplings: Sequence[admm.Coupling], seed: int | None = None
) -> Problem:
    """A Problem whose optimum is found here, centrally. Raises InfeasibleError, SolverError."""
    best = solve_monolithic(programs, couplings)
    return Problem(name, programs, tuple(couplings), best.objective_eur, best.turnover_eur, seed)


class CaseSubject:
    """A bundled case; its optimum is the one in its reference.json (exact flows, found centrally)."""

    seed = None

    def __init__(self, name: str, family: str) -> None:
        self.name, self.family = name, family
        self._case = load_case(name)
        reference = self._case.folder.reference()
        if name not in reference:
            saved = ", ".join(reference) or "none"
            raise admm.InputError(
                f"case '{name}' has no saved optimum, which is needed to measure on it; saved: {saved}"
            )
        self.optimum_eur, self.turnover_eur = reference[name]["objective_eur"], reference[name]["turnover_eur"]

    @cached_property
    def couplings(self) -> tuple[admm.Coupling, ...]:
        return self._case.couplings

    def agents(self, solver: str) -> dict[str, admm.Agent]:
        return {name: self._case.build_agent(name, solver) for name in self._case.agents}
