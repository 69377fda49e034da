"""The distribution system operator as an agent: a QP whose flows are corrected while the run goes on.

The rows of the flow are exact at an operating point only. After every answer the exact flow of what was
answered is computed (a sweep of a fraction of a millisecond); where the two differ, the rows are moved
to that flow, at iteration 2 and then every 5, and whenever the engine asks to settle. It takes two to
five corrections a run and, as a rule, no more iterations than without.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from admm import AgentBoundary, Answer, InputError, Question
from networks.distribution_program import (
    Connection,
    DistributionModel,
    DistributionProgram,
    FlowErrors,
    ReactiveSupport,
)
from subproblems import QPAgent

__all__ = ["Connection", "DistributionAgent", "DistributionModel", "DistributionProgram", "ReactiveSupport"]

FIRST_CORRECTION, CORRECTION_EVERY = 2, 5
CORRECT_ABOVE_PU, CORRECT_ABOVE_LOSS_SHARE = 1e-5, 1e-4
"""Errors at the operator's own answer above which the rows are moved."""
FINAL_PU, FINAL_LOSS_SHARE = 4e-5, 8e-4
"""Errors at the communities' schedule at which `model_error` is 1: inside 5e-5 pu and 0.1 % of losses."""
ACTIVATED_FACTOR = 5.0
"""How much wider the tolerances of the activated scenarios are."""
LARGEST_ERROR = 1e9
"""Stands for "no flow exists" in `model_error`, which must be finite to be sent."""


class DistributionAgent:
    """Answers for one DistributionModel. solver: "osqp" or "piqp"."""

    def __init__(self, model: DistributionModel, solver: str = "osqp", shares_cost: bool = True) -> None:
        self.model, self._solver, self._shares_cost = model, solver, shares_cost
        self.program: DistributionProgram | None = None
        self.corrections = 0

    def prepare(self, boundary: AgentBoundary) -> None:
        slices = boundary.slices()
        scales = {key: float(boundary.scale[at].max()) for key, at in slices.items()}
        self.program, self.corrections = DistributionProgram(self.model, scales), 0
        self._entries = self._community_entries(slices)
        self._errors: dict[str, FlowErrors] = {}
        self._agent = QPAgent(self.program.linearised(), solver=self._solver, shares_cost=self._shares_cost)
        self._agent.prepare(boundary)

    def _community_entries(self, slices: dict[tuple[str, str], slice]) -> dict[int, slice]:
        """Where each community's p_mw stands in a question, by position among the connections."""
        for one in self.model.connections:
            if (one.coupling, "p_mw") not in slices:
                raise InputError(f"distribution operator '{self.model.name}': there is no coupling '{one.coupling}' with p_mw")
        return {i: slices[one.coupling, "p_mw"] for i, one in enumerate(self.model.connections)}

    def answer(self, question: Question) -> Answer:
        began = time.perf_counter()
        if self._correction_due(question):
            self._correct()
        answer = self._agent.answer(question)
        if not answer.status.usable:
            return answer
        self._observe()
        error = self._model_error(question)
        return replace(answer, model_error=error, solve_seconds=time.perf_counter() - began)

    def _correction_due(self, question: Question) -> bool:
        late = question.iteration - FIRST_CORRECTION
        due = question.settle or (late > 0 and (late - 1) % CORRECTION_EVERY == 0)
        worst = max((e.multiple(CORRECT_ABOVE_PU, CORRECT_ABOVE_LOSS_SHARE) for e in self._errors.values()), default=0.0)
        return due and worst > 1.0

    def _correct(self) -> None:
        """Move the rows to the exact flow at the latest answer; same pattern, other numbers."""
        self._agent.update(self.program.linearised(self.program.points(self._agent.x)))
        self.corrections += 1

    def _observe(self) -> None:
        x, program = self._agent.x, self.program
        self._errors = {name: program.errors(x, program.exact_flow(x, name), name) for name in program.flows}

    def _model_error(self, question: Question) -> float:
        """The base flows against the exact flow of the communities' own schedule, the activated ones against
        that of the operator's copies, as a multiple of the tolerance."""
        x, program = self._agent.x, self.program
        flow = program.sweep.run(*program.consumption(self._at_reference(question)))
        error = program.errors(x, flow).multiple(FINAL_PU, FINAL_LOSS_SHARE)
        for name, activated in self._errors.items():
            if name != "base":
                wide = activated.multiple(ACTIVATED_FACTOR * FINAL_PU, ACTIVATED_FACTOR * FINAL_LOSS_SHARE)
                error = max(error, wide)
        return min(error, LARGEST_ERROR)

    def _at_reference(self, question: Question) -> np.ndarray:
        """The latest x with the communities' own p_mw in place of the copies, where the question holds them to it."""
        x = self._agent.x.copy()
        for i, at in self._entries.items():
            columns = self.program.boundary[self.model.connections[i].coupling, "p_mw"]
            x[columns] = np.where(question.penalty[at] > 0, question.reference[at], x[columns])
        return x

    def solution(self) -> dict[str, np.ndarray]:
        """Flows, voltages, currents and losses by scenario, and the set points: {"base.voltage_pu": (T, n), ...}."""
        if self.program is None or self._agent.x is None:
            return {}
        found = self._agent.solution()
        for name, v in self.program.flows.items():
            x = self._agent.x
            p, q = x[v.p], x[v.q]
            voltage = self.program.voltage_pu(x, name)
            found[f"{name}.branch_p_mw"], found[f"{name}.branch_q_mvar"] = p, q
            found[f"{name}.voltage_pu"] = voltage
            found[f"{name}.current_pu"] = np.hypot(p, q) / voltage[:, self.model.feeder.parent]
            found[f"{name}.losses_mw"] = self.program.losses_mw(x, name)
            del found[f"{name}.voltage_sq_percent"]
        return found

    def violation(self) -> float:
        """Largest violation of the operator's own rows by the latest answer, per unit of their scale."""
        return 0.0 if self.program is None else self._agent.violation()
