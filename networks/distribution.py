"""The distribution system operator as an agent: a QP that follows its flow while the run goes on.

Two things keep it exact and quick. *Corrections*: the flows are exact at an operating point only. After
every answer the exact flow of what was answered is computed (a sweep of a fraction of a millisecond);
where the two differ, the program is moved to that flow, before answers 3, 8, 13 and so on, and whenever the
engine asks to settle. *Rows on demand*: of thousands of limits a few bind. The program starts without them;
every answer is checked against all, and is solved again with those that it breaks, or nearly breaks,
until it breaks none.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from admm import AgentBoundary, Answer, InputError, Question
from networks.ac_check import AcCheck, check_ac
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
        self._agent: QPAgent | None = None

    def prepare(self, boundary: AgentBoundary) -> None:
        slices = boundary.slices()
        scales = {key: float(boundary.scale[at].max()) for key, at in slices.items()}
        self.program, self.corrections = DistributionProgram(self.model, scales), 0
        self._entries = self._community_entries(slices)
        self._errors: dict[str, FlowErrors] = {}
        self._boundary, self._points = boundary, self.program.first_points()
        self.program.linearised(self._points)
        self._agent = self._scheduled = None
        self._start(self.program.no_rows())

    def _start(self, masks: list[np.ndarray] | None) -> None:
        """Begin anew with other rows; None for all of them."""
        self._masks = masks
        qp = self.program.linearised(self._points, masks)
        latest = None if self._agent is None else self._agent.x
        self._agent = QPAgent(qp, solver=self._solver, shares_cost=self._shares_cost)
        self._agent.prepare(self._boundary)
        self._agent.x = latest  # what stands if the run is interrupted before the next answer

    def _community_entries(self, slices: dict[tuple[str, str], slice]) -> dict[int, slice]:
        """Where each community's p_mw stands in a question, by position among the connections."""
        for one in self.model.connections:
            if (one.coupling, "p_mw") not in slices:
                raise InputError(
                    f"distribution operator '{self.model.name}': there is no coupling '{one.coupling}' with p_mw"
                )
        return {i: slices[one.coupling, "p_mw"] for i, one in enumerate(self.model.connections)}

    def answer(self, question: Question) -> Answer:
        began = time.perf_counter()
        if self._correction_due(question):
            self._correct()
        answer = self._solve(question)
        if not answer.status.usable:
            self._errors = {}  # there is no answer to correct at
            return answer
        self._observe()
        cost = None if answer.cost_eur is None else self.program.cost_eur(self._agent.x)
        error = self._model_error(question)
        return replace(answer, cost_eur=cost, model_error=error, solve_seconds=time.perf_counter() - began)

    def _solve(self, question: Question) -> Answer:
        """Solve, and again with the rows that the answer breaks, until it breaks none.

        Without a usable answer all rows are taken at once: what is unbounded may be bounded by a limit,
        and what is infeasible should be explained with all that contributes.
        """
        answer, iterations = self._agent.answer(question), 0
        while self._masks is not None:
            masks = None
            if answer.status.usable:
                masks = self.program.missing_rows(self._agent.x, self._masks, question.accuracy)
                if masks is None:
                    break
            iterations += answer.inner_iterations
            self._start(masks)
            answer = self._agent.answer(question)
        return replace(answer, inner_iterations=iterations + answer.inner_iterations)

    def _correction_due(self, question: Question) -> bool:
        late = question.iteration - FIRST_CORRECTION
        due = question.settle or (late > 0 and (late - 1) % CORRECTION_EVERY == 0)
        worst = max(
            (e.multiple(CORRECT_ABOVE_PU, CORRECT_ABOVE_LOSS_SHARE) for e in self._errors.values()), default=0.0
        )
        return due and worst > 1.0

    def _correct(self) -> None:
        """Move the rows to the exact flow at the latest answer; same rows, other numbers."""
        self._points = self.program.points(self._agent.x)
        self._agent.update(self.program.linearised(self._points, self._masks))
        self.corrections += 1

    def _observe(self) -> None:
        self._errors = self.program.all_errors(self._agent.x)

    def _model_error(self, question: Question) -> float:
        """The base flows against the exact flow of the communities' own schedule, the activated ones against
        that of the operator's copies, as a multiple of the tolerance."""
        x, program = self._agent.x, self.program
        self._scheduled = self._at_reference(question)
        flow = program.sweep.run(*program.consumption(self._scheduled))
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
        found, x = self._agent.solution(), self._agent.x
        for name in self.program.scenarios:
            point = self.program.own_point(x, name)
            voltage = np.sqrt(point.v_sq_pu)
            found[f"{name}.branch_p_mw"], found[f"{name}.branch_q_mvar"] = point.branch_p_mw, point.branch_q_mvar
            found[f"{name}.voltage_pu"] = voltage
            sending = voltage[:, self.model.feeder.parent]
            found[f"{name}.current_pu"] = np.hypot(point.branch_p_mw, point.branch_q_mvar) / sending
            found[f"{name}.losses_mw"] = self.program.losses_mw(x, name)
        return found

    def units(self) -> dict[str, str]:
        """The unit of each block of `solution`, by the end of its name."""
        own = {} if self.program is None else self._agent.units()
        return {
            name: own.get(name, "pu" if name.endswith("_pu") else "Mvar" if name.endswith("_mvar") else "MW")
            for name in self.solution()
        }

    def cost_eur(self) -> float | None:
        """The operator's own cost of its latest answer, for its owner."""
        solved = self.program is not None and self._agent.x is not None
        return self.program.cost_eur(self._agent.x) if solved else None

    def ac_check(self) -> AcCheck | None:
        """The latest answer against pandapower's AC power flow of the communities' own schedule; None without one.

        A run that was stopped early may hold a schedule that no feeder can carry.
        """
        x, program = self._agent.x, self.program
        if x is None or self._scheduled is None:
            return None
        p, q = program.consumption(self._scheduled)
        voltage_pu = np.sqrt(program.own_point(x, "base").v_sq_pu)
        try:
            return check_ac(self.model.feeder, p, q, voltage_pu, program.losses_mw(x, "base"))
        except InputError:
            return None

    def violation(self) -> float:
        """Largest violation of the operator's own limits by the latest answer, per unit of their scale."""
        if self.program is None or self._agent.x is None:
            return 0.0
        broken = max(-float(limit.slack(self._agent.x).min()) for limit in self.program.limits)
        return max(self._agent.violation(), broken)
