"""A flow program with few of its rows: of thousands of limits a few bind.

It starts without them; every answer is checked against all, and solved again with those that it breaks, or
nearly breaks, until it breaks none. Leaving rows out relaxes, so a bound from some rows holds for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from admm import AgentBoundary, Answer, Question
from admm.fits import check_like
from networks.flow_program import FlowProgram
from subproblems import QPAgent

MOST_ROUNDS, ROW_ACCURACY = 8, 1e-5
"""Of an answer beside the schedule: rounds at most; without own cost, the violation, per unit, that takes a row in."""


class Beside(NamedTuple):
    """Operating points and masks of rows, see `RowsOnDemand`."""

    points: Any
    masks: list[np.ndarray] | None


class RowsOnDemand:
    """Answers for a program at given operating points. agent: what solves it with the latest rows.

    masks: which rows of each limit are taken, (T, E) each; None for all. resumable: see `QPAgent`. former: whose solver
    it goes on with, see `QPAgent.goes_on_as`.
    """

    def __init__(
        self,
        program: FlowProgram,
        points: Any,
        boundary: AgentBoundary,
        solver: str,
        shares_cost: bool,
        resumable: bool = False,
        former: QPAgent | None = None,
    ) -> None:
        self._program, self._points, self._boundary = program, points, boundary
        self._solver, self._shares_cost, self._resumable = solver, shares_cost, resumable
        program.linearised(points)  # which limits there are
        self.agent: QPAgent | None = former
        self.agent = self._start(program.no_rows())

    @property
    def x(self) -> np.ndarray | None:
        """What stands behind the latest usable answer, (n,); None before the first."""
        return self.agent.x

    def _start(self, masks: list[np.ndarray] | None) -> QPAgent:
        """A new agent, with other rows."""
        self.masks = masks
        qp = self._program.linearised(self._points, masks)
        agent = QPAgent(qp, solver=self._solver, shares_cost=self._shares_cost)
        agent.prepare(self._boundary)
        agent.resumable = self._resumable
        if self.agent is not None:
            agent.goes_on_as(self.agent)
        return agent

    def snapshot(self) -> dict[str, Any]:
        """The rows, and what stands behind the agent's next answer, beside program and points."""
        self._resumable = True
        return {"masks": self.masks, "agent": self.agent.snapshot()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        if kept["masks"] is not None:
            check_like(kept["masks"], self._program.no_rows(), "masks")
        self.agent = self._start(kept["masks"])
        self.agent.restore(kept["agent"])

    def move(self, points: Any) -> None:
        """To other operating points: the same rows with other numbers, so that the solver stays warm."""
        if points is not self._points:
            self._points = points
            self.agent.update(self._program.linearised(points, self.masks))

    def take(self, program: FlowProgram) -> None:
        """A program of the same variables and limits with other numbers, at the same operating points."""
        self._program = program
        program.linearised(self._points)  # its limits
        self.agent.update(program.linearised(self._points, self.masks))

    def beside(self, question: Question, at: Beside | None = None) -> tuple[Answer, np.ndarray | None, Beside]:
        """An answer beside the schedule, x, (n,), behind it, and where it was given.

        at: operating points, and the rows to begin with; by default those of the schedule. Others are taken while the
        answer breaks them. A bound holds with all rows, however many rounds there were; a schedule with all of them
        only.
        """
        accuracy = question.accuracy if question.own_cost else ROW_ACCURACY
        points, masks = at or Beside(self._points, self.masks)
        for left in reversed(range(MOST_ROUNDS)):
            agent = QPAgent(self._program.linearised(points, masks), self._solver, self._shares_cost)
            agent.prepare(self._boundary)
            answer, x = agent.beside(question)
            if masks is None or x is None:
                break
            missing = self._program.missing_rows(x, masks, accuracy)
            if missing is None:
                break
            masks = missing if left > 1 else None
        return answer, x, Beside(points, masks)

    def answer(self, question: Question) -> Answer:
        """Without a usable answer all rows are taken at once: what is unbounded may be bounded by a limit,
        and what is infeasible should be explained with all that contributes.
        """
        answer, iterations = self.agent.answer(question), 0
        while self.masks is not None:
            masks = None
            if answer.status.usable:
                masks = self._program.missing_rows(self.agent.x, self.masks, question.accuracy)
                if masks is None:
                    break
            iterations += answer.inner_iterations
            latest = self.agent.x
            self.agent = self._start(masks)
            self.agent.x = latest  # what stands if the run is interrupted before the next answer
            answer = self.agent.answer(question)
        return replace(answer, inner_iterations=iterations + answer.inner_iterations)
