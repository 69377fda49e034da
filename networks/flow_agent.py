"""A grid operator as an agent: a QP that follows its flow while the run goes on.

Two things keep it exact and quick. *Corrections*: the flows are exact at an operating point only. After
every answer the exact flow of what was answered is computed (it takes milliseconds);
where the two differ, the program is moved to that flow, before answers 3, 8, 13 and so on, and whenever the
engine asks to settle. *Rows on demand*: of thousands of limits a few bind, and only those are in the program.

A question without any penalty asks what prices are worth, not for a schedule: it is answered beside it, at the
same operating points with rows of its own, and corrects nothing. Its bound is one of the program at the latest
operating points, and so is its cost: both contain what steers the solve around them.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from admm import AgentBoundary, Answer, InputError, Question
from admm.couplings import Layout
from admm.fits import check_array, check_like
from admm.interfaces import Names
from admm.memory.joint import Joint
from networks.flow_program import FlowProgram
from networks.rows_on_demand import Beside, RowsOnDemand
from subproblems.lead_model import LeadModel

FIRST_CORRECTION, CORRECTION_EVERY = 2, 5
KEPT = ("corrections", "_errors", "_points", "_unplaced", "_latest_error", "_scheduled", "_led")
"""Attributes that change from answer to answer."""
SCHEDULE_ERROR = 0.5
"""Model error of a schedule that is given above which the rows are moved to it."""
UNITS = {"_pu": "pu", "_mvar": "Mvar", "_mw": "MW", "_mwh": "MWh", "_bar_g": "bar"}
"""By the end of a name in `solution`."""


class FlowAgent(ABC):
    """Answers for one FlowProgram, which subclasses make. solver: "osqp" or "piqp"."""

    program: FlowProgram | None

    def __init__(self, who: str, solver: str = "osqp", shares_cost: bool = True) -> None:
        self._who, self._solver, self._shares_cost = who, solver, shares_cost
        self.program, self.corrections = None, 0
        self._rows: RowsOnDemand | None = None
        self._resumable = False
        self._boundary: AgentBoundary | None = None
        self._revised = False

    @abstractmethod
    def _make_program(self, scales: Mapping[tuple[str, str], float]) -> FlowProgram:
        """scales: nominal size of each boundary quantity, MW."""

    def prepare(self, boundary: AgentBoundary) -> None:
        slices = boundary.slices()
        scales = {key: float(boundary.scale[at].max()) for key, at in slices.items()}
        kept, self._revised = self._revised and boundary.same_as(self._boundary), False
        if kept:
            self._take(self._make_program(scales))
            return
        self.program, self.corrections = self._make_program(scales), 0
        for coupling, quantity in self.program.boundary:
            if (coupling, quantity) not in slices:
                raise InputError(f"{self._who}: there is no coupling '{coupling}' with {quantity}")
        self._errors: Mapping[str, Any] = {}
        self._boundary, self._points, self._unplaced = boundary, self.program.first_points(), True
        self._latest_error, self._scheduled, self._price_rows, self._led, self._rows = 0.0, None, None, None, None
        self._near: tuple[int, Beside | None] | None = None
        self._rows = self._new_rows()

    def _take(self, program: FlowProgram) -> None:
        """Go on with other numbers of the model: the same rows, the solver stays warm."""
        self._unplaced, self._near = True, None
        self.program, self._price_rows, self._errors, self._latest_error = program, None, {}, 0.0
        self._rows.take(program)

    def _new_rows(self) -> RowsOnDemand:
        agent = (self._boundary, self._solver, self._shares_cost, self._resumable)
        return RowsOnDemand(self.program, self._points, *agent, self._rows and self._rows.agent)

    def snapshot(self) -> dict[str, Any]:
        """All that the next answer depends on beside the model, see `QPAgent.snapshot`."""
        self._resumable = True
        rows = {name: rows and rows.snapshot() for name, rows in (("rows", self._rows), ("prices", self._price_rows))}
        return {**rows, "program": self.program.snapshot(), **{name: getattr(self, name) for name in KEPT}}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """After `prepare`: answer as the agent would have whose snapshot this is."""
        self._check_kept(kept)
        self._resumable = True
        self.program.restore(kept["program"])
        for name in KEPT:
            setattr(self, name, kept[name])
        if self._led is not None:
            self._led = LeadModel(self._led.program.like(self.program.linearised(self._points)), self._boundary)
        self._price_rows = None if kept["prices"] is None else self._restored_rows(kept["prices"])
        self._rows = self._restored_rows(kept["rows"])

    def _check_kept(self, kept: Mapping[str, Any]) -> None:
        """Raise ValueError where a snapshot is none of this agent."""
        own = {name: getattr(self, name) for name in KEPT if name not in ("_scheduled", "_led", "_errors")}
        check_like({name: kept[name] for name in own}, own, self._who)
        check_like(kept["program"], self.program.snapshot(), f"{self._who}.program")
        if kept["_scheduled"] is not None:
            check_array(kept["_scheduled"], (self.program.size,), f"{self._who}.scheduled")
        if not self.program.correction_multiple(kept["_errors"]) >= 0.0:
            raise ValueError(f"{self._who}: an error is below 0")

    def _restored_rows(self, kept: Mapping[str, Any]) -> RowsOnDemand:
        rows = self._new_rows()
        rows.restore(kept)
        return rows

    def answer(self, question: Question) -> Answer:
        began = time.perf_counter()
        if question.beside or not question.own_cost:
            answer = self._beside(question)
        else:
            answer = self._schedule(question) if question.penalty.any() else self._at_prices(question)
        return replace(answer, model_error=self._latest_error, solve_seconds=time.perf_counter() - began)

    def _beside(self, question: Question) -> Answer:
        if not question.own_cost:
            return self._without_cost(question)
        answer, x, _ = self._rows.beside(question)
        if not answer.status.usable or answer.cost_eur is None:
            return answer
        return replace(answer, cost_eur=self.program.cost_eur(x))

    def _without_cost(self, question: Question) -> Answer:
        """At the exact flow of the latest point of this iteration that came nearest to a reference: limits that
        contradict those of others at a flow that nobody wants need not do so elsewhere."""
        if self._near is None or self._near[0] != question.iteration:
            self._near = question.iteration, None
        answer, x, at = self._rows.beside(question, self._near[1])
        if answer.status.usable and question.penalty.any():
            kept = self.program.snapshot()
            at = at._replace(points=self.program.points(x))
            self.program.restore(kept)
        self._near = question.iteration, at
        return answer

    def _schedule(self, question: Question) -> Answer:
        if self._unplaced:
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

        A run that starts where another one ended then starts with its flows too: 9 to 17 iterations instead of
        37. From an ordinary start it costs one solve and changes little. A reference far beyond what the grid
        carries may leave no answer near its flow: then the rows begin where they were.
        """
        self._unplaced, first = False, self._points
        asked = self.program.first_x()
        for key, at in self._boundary.slices().items():
            asked[self.program.boundary[key]] = np.where(question.penalty[at] > 0, question.reference[at], 0.0)
        self._points = self.program.points(asked)
        self._rows.move(self._points)
        if self._rows.answer(question).status.usable:
            self._correct()
        else:
            self._points = first
            self._rows = self._new_rows()

    def _at_prices(self, question: Question) -> Answer:
        if self._price_rows is None:
            self._price_rows = self._new_rows()
        self._price_rows.move(self._points)
        return self._price_rows.answer(question)

    def _correction_due(self, question: Question) -> bool:
        late = question.iteration - FIRST_CORRECTION
        due = question.settle or (late > 0 and (late - 1) % CORRECTION_EVERY == 0)
        return due and self.program.correction_multiple(self._errors) > 1.0

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
        return self.program.schedule_multiple(self._rows.x, scheduled, self._errors)

    def _at_reference(self, question: Question) -> np.ndarray:
        """The latest x with the other side's own values in place of the copies, where the question holds them to it."""
        x, slices = self._rows.x.copy(), self._boundary.slices()
        for key in self.program.held:
            columns, at = self.program.boundary[key], slices[key]
            x[columns] = np.where(question.penalty[at] > 0, question.reference[at], x[columns])
        return x

    def join(self, leads: Sequence, names: Sequence[str], layout: Layout) -> Joint:
        """The joint program of several leads, this one among them; see `admm.memory.joint.Lead`."""
        from subproblems.joint import JointProgram

        return JointProgram(leads, names, layout)

    def lead_model(self) -> LeadModel:
        """The program at the latest operating points with all its rows, for a joint solve on this rank."""
        self._led = LeadModel(self.program.linearised(self._points), self._boundary)
        return self._led

    def led_model(self) -> LeadModel:
        """The one that was given last: the rows may have moved since."""
        return self._led

    def take_schedule(self, x: np.ndarray) -> bool:
        """Make x, (n,), the schedule that the other side follows too. Whether the program has moved to its flow."""
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

    def replaced_solver(self) -> str:
        """See `QPAgent`."""
        return "" if self._rows is None else self._rows.agent.replaced_solver()

    def latest(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Give x of the latest answer and the same with what the other side schedules, (n,) each; None before one."""
        if self.program is None or self._rows.x is None or self._scheduled is None:
            return None
        return self._rows.x, self._scheduled

    def scheduled(self) -> dict[tuple[str, str], np.ndarray]:
        """Boundary values (T,) of the schedule that the other side follows, its own where its values are held."""
        if self.program is None or self._scheduled is None:
            return {}
        return {key: self._scheduled[at] for key, at in self.program.boundary.items()}

    def solution(self) -> dict[str, np.ndarray]:
        """The boundary values and set points, and the program's own `solution`."""
        if self.program is None or self._rows.x is None:
            return {}
        return self._rows.agent.solution() | self.program.solution(self._rows.x)

    def units(self) -> dict[str, str]:
        """The unit of each block of `solution`."""
        own = {} if self.program is None else self._rows.agent.units()
        return {name: own.get(name) or _unit(name) for name in self.solution()}

    def names(self) -> dict[str, Names]:
        """What the columns of each block of `solution` are."""
        return {} if self.program is None else self.program.names()

    def cost_eur(self) -> float | None:
        """The operator's own cost of its schedule, for its owner."""
        solved = self.program is not None and self._rows.x is not None
        return self.program.cost_eur(self._rows.x) if solved else None

    def checks(self) -> dict[str, float | None]:
        """The latest answer against exact flows of what the other side schedules, by key of a run's summary."""
        latest = self.latest()
        return {} if latest is None else self.program.checks(*latest)

    def violation(self) -> float:
        """Largest violation of the operator's own limits by its schedule, per unit of their scale."""
        if self.program is None or self._rows.x is None:
            return 0.0
        broken = max(-float(slack.min(initial=0.0)) for slack in self.program.slacks(self._rows.x))
        return max(self._rows.agent.violation(), broken)


def _unit(name: str) -> str:
    return next(unit for end, unit in UNITS.items() if name.endswith(end))
