"""The distribution system operator as an agent: a QP that follows its flow while the run goes on.

Two things keep it exact and quick. *Corrections*: the flows are exact at an operating point only. After
every answer the exact flow of what was answered is computed (a sweep of a fraction of a millisecond);
where the two differ, the program is moved to that flow, before answers 3, 8, 13 and so on, and whenever the
engine asks to settle. *Rows on demand*: of thousands of limits a few bind, and only those are in the program.

A question without any penalty asks what prices are worth, not for a schedule: it is answered beside it, at the
same operating points with rows of its own, and corrects nothing. Its bound is one of the program at the latest
operating points, and so is its cost: both contain the curvature of losses around them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from admm import AgentBoundary, Answer, InputError, Question
from admm.couplings import Layout
from admm.memory.joint import Joint
from networks.ac_check import AcCheck, check_ac
from networks.distribution_program import (
    Connection,
    DistributionModel,
    DistributionProgram,
    FlowErrors,
    ReactiveSupport,
    Supply,
)
from networks.rows_on_demand import RowsOnDemand
from subproblems.lead_model import LeadModel

__all__ = ["Connection", "DistributionAgent", "DistributionModel", "DistributionProgram", "ReactiveSupport", "Supply"]

FIRST_CORRECTION, CORRECTION_EVERY = 2, 5
CORRECT_ABOVE_PU, CORRECT_ABOVE_LOSS_SHARE = 1e-5, 1e-4
"""Errors at the operator's own answer above which the rows are moved."""
FINAL_PU, FINAL_LOSS_SHARE = 4e-5, 8e-4
"""Errors at the communities' schedule at which `model_error` is 1: inside 5e-5 pu and 0.1 % of losses."""
ACTIVATED_FACTOR = 5.0
"""How much wider the tolerances of the activated scenarios are."""
SCHEDULE_ERROR = 0.5
"""Model error of a schedule that is given above which the rows are moved to it."""
LARGEST_ERROR = 1e9
"""Stands for "no flow exists" in `model_error`, which must be finite to be sent."""


class DistributionAgent:
    """Answers for one DistributionModel. solver: "osqp" or "piqp"."""

    def __init__(self, model: DistributionModel, solver: str = "osqp", shares_cost: bool = True) -> None:
        self.model, self._solver, self._shares_cost = model, solver, shares_cost
        self.program: DistributionProgram | None = None
        self.corrections = 0
        self._rows: RowsOnDemand | None = None

    def prepare(self, boundary: AgentBoundary) -> None:
        slices = boundary.slices()
        scales = {key: float(boundary.scale[at].max()) for key, at in slices.items()}
        self.program, self.corrections = DistributionProgram(self.model, scales), 0
        self._entries = self._community_entries(slices)
        self._errors: dict[str, FlowErrors] = {}
        self._boundary, self._points = boundary, self.program.first_points()
        self._latest_error, self._scheduled, self._price_rows = 0.0, None, None
        self._rows = self._new_rows()

    def _new_rows(self) -> RowsOnDemand:
        return RowsOnDemand(self.program, self._points, self._boundary, self._solver, self._shares_cost)

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
        answer = self._schedule(question) if question.penalty.any() else self._at_prices(question)
        return replace(answer, model_error=self._latest_error, solve_seconds=time.perf_counter() - began)

    def _schedule(self, question: Question) -> Answer:
        if self._rows.x is None:
            self._begin_at(question)
        if self._correction_due(question):
            self._correct()
        answer = self._rows.answer(question)
        if not answer.status.usable:
            self._errors, self._latest_error = {}, 0.0  # there is no answer to correct at
            return answer
        self._observe()
        self._latest_error = self._model_error(question)
        return answer if answer.cost_eur is None else replace(answer, cost_eur=self.program.cost_eur(self._rows.x))

    def _begin_at(self, question: Question) -> None:
        """Move the rows to the exact flow of what the first question refers to, then to that of the answer to it.

        A run that starts where another one ended then starts with its losses too: 9 to 17 iterations instead of
        37. From an ordinary start it costs one solve and changes little.
        """
        asked = np.zeros(self.program.columns.size)
        for key, at in self._boundary.slices().items():
            asked[self.program.boundary[key]] = np.where(question.penalty[at] > 0, question.reference[at], 0.0)
        self._points = self.program.points(asked)
        self._rows.move(self._points)
        if self._rows.answer(question).status.usable:
            self._correct()

    def _at_prices(self, question: Question) -> Answer:
        if self._price_rows is None:
            self._price_rows = self._new_rows()
        self._price_rows.move(self._points)
        return self._price_rows.answer(question)

    def _correction_due(self, question: Question) -> bool:
        late = question.iteration - FIRST_CORRECTION
        due = question.settle or (late > 0 and (late - 1) % CORRECTION_EVERY == 0)
        return due and self._worst_error() > 1.0

    def _worst_error(self) -> float:
        """Of the rows at the schedule, in multiples of what is corrected."""
        errors = self._errors.values()
        return max((e.multiple(CORRECT_ABOVE_PU, CORRECT_ABOVE_LOSS_SHARE) for e in errors), default=0.0)

    def _correct(self) -> None:
        """Move the rows to the exact flow at the latest answer; same rows, other numbers."""
        self._points = self.program.points(self._rows.x)
        self._rows.move(self._points)
        self.corrections += 1

    def _observe(self) -> None:
        self._errors = self.program.all_errors(self._rows.x)

    def _model_error(self, question: Question) -> float:
        self._scheduled = self._at_reference(question)
        return self._error_at(self._scheduled)

    def _error_at(self, scheduled: np.ndarray) -> float:
        """The base flows against the exact flow of the communities' own schedule, the activated ones against
        that of the operator's copies, as a multiple of the tolerance."""
        x, program = self._rows.x, self.program
        flow = program.sweep.run(*program.consumption(scheduled))
        error = program.errors(x, flow).multiple(FINAL_PU, FINAL_LOSS_SHARE)
        for name, activated in self._errors.items():
            if name != "base":
                wide = activated.multiple(ACTIVATED_FACTOR * FINAL_PU, ACTIVATED_FACTOR * FINAL_LOSS_SHARE)
                error = max(error, wide)
        return min(error, LARGEST_ERROR)

    def _at_reference(self, question: Question) -> np.ndarray:
        """The latest x with the communities' own p_mw in place of the copies, where the question holds them to it."""
        x = self._rows.x.copy()
        for i, at in self._entries.items():
            columns = self.program.boundary[self.model.connections[i].coupling, "p_mw"]
            x[columns] = np.where(question.penalty[at] > 0, question.reference[at], x[columns])
        return x

    def join(self, leads: Sequence, names: Sequence[str], layout: Layout) -> Joint:
        """The joint program of several leads, this one among them; see `admm.memory.joint.Lead`."""
        from subproblems.joint import JointProgram

        return JointProgram(leads, names, layout)

    def lead_model(self) -> LeadModel:
        """The program at the latest operating points with all its rows, for a joint solve on this rank."""
        return LeadModel(self.program.linearised(self._points), self._boundary)

    def take_schedule(self, x: np.ndarray) -> bool:
        """Make x, (n,), the schedule that the communities follow too. Whether the program has moved to its flow."""
        self._rows.agent.x = self._scheduled = x
        self._observe()
        self._latest_error = self._error_at(x)
        moved = self._latest_error > SCHEDULE_ERROR
        if moved:
            self._correct()
        return moved

    def model_error(self) -> float:
        """See `Answer`; of the schedule."""
        return self._latest_error

    def solution(self) -> dict[str, np.ndarray]:
        """Flows, voltages, currents and losses by scenario, and the set points: {"base.voltage_pu": (T, n), ...}."""
        if self.program is None or self._rows.x is None:
            return {}
        found, x = self._rows.agent.solution(), self._rows.x
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
        own = {} if self.program is None else self._rows.agent.units()
        return {
            name: own.get(name, "pu" if name.endswith("_pu") else "Mvar" if name.endswith("_mvar") else "MW")
            for name in self.solution()
        }

    def cost_eur(self) -> float | None:
        """The operator's own cost of its schedule, for its owner."""
        solved = self.program is not None and self._rows.x is not None
        return self.program.cost_eur(self._rows.x) if solved else None

    def ac_check(self) -> AcCheck | None:
        """The latest answer against pandapower's AC power flow of the communities' own schedule; None without one.

        A run that was stopped early may hold a schedule that no feeder can carry.
        """
        x, program = self._rows.x, self.program
        if x is None or self._scheduled is None:
            return None
        p, q = program.consumption(self._scheduled)
        voltage_pu = np.sqrt(program.own_point(x, "base").v_sq_pu)
        try:
            return check_ac(self.model.feeder, p, q, voltage_pu, program.losses_mw(x, "base"))
        except InputError:
            return None

    def violation(self) -> float:
        """Largest violation of the operator's own limits by its schedule, per unit of their scale."""
        if self.program is None or self._rows.x is None:
            return 0.0
        broken = max(-float(limit.slack(self._rows.x).min()) for limit in self.program.limits)
        return max(self._rows.agent.violation(), broken)
