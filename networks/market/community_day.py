"""One community through the day: its program at every gate, and what has really happened in the periods before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from admm import AgentBoundary
from admm.fits import check_array
from networks.market.intraday_program import IntradayProgram, Relief
from subproblems import QPAgent, QuadraticProgram
from subproblems.ev_error import Stays

BALANCE = "power balance"
Revise = Callable[[str, np.ndarray], np.ndarray]
"""The latest forecast (T,) of a series, from its name and its day-ahead forecast."""


class ProgramOfDay(Protocol):
    """What gives a community's program when every series is put through a Revise, and every stay has its error."""

    def __call__(self, revise: Revise, *, stays: Stays | None) -> QuadraticProgram: ...


class CommunityDay:
    """agent: as it was cleared day-ahead; it answers for the gate that was opened last. given_way: limits that gave way
    at that gate, in their units."""

    def __init__(
        self,
        agent: QPAgent,
        compile_at: ProgramOfDay,
        coupling: str,
        hours: float,
        relief: Relief,
        terminal_eur_per_kwh: float,
    ) -> None:
        self.agent, self._compile, self._coupling, self._done = agent, compile_at, coupling, agent.x.copy()
        self._program = IntradayProgram(agent.qp, coupling, hours, relief, terminal_eur_per_kwh)
        self._control = self._program.local_control(agent.qp)
        self._period_of = np.concatenate([np.arange(block.length) for block in agent.qp.variables])
        self._gate, self._latest = 0, agent.qp
        self.given_way: dict[str, np.ndarray] = {}

    def open(self, gate: int, known: int, revise: Revise, stays: Stays | None = None) -> np.ndarray:
        """Freeze what has happened before the gate and take the latest forecasts, of stays of electric vehicles, too;
        `known` periods of them are facts.

        By how much the power at the meter changes where the devices stay at what they were told; (T,) MW.
        """
        qp, before = self._compile(revise, stays=stays), self._gate
        planned = np.where(self._period_of < before, self._done, self.agent.x)
        now = self._control.kept(qp, self._program.realised(qp, planned, self._latest), min(known, before), gate)
        settled = self._period_of < min(known, before)
        self._done = np.where(settled, self._done, now)
        self._gate, self._latest = gate, qp
        program, self.given_way = self._program.program(qp, gate, self._done)
        change = self._drawn(qp, self._done) - self.agent.x[qp.boundary[self._coupling, "p_mw"]]
        self.agent.revise(program)
        return change

    def snapshot(self) -> dict[str, Any]:
        """Return all that the gates to come depend on beside the agent's files."""
        return {"done": self._done, "agent": self.agent.snapshot()}

    def restore(
        self, kept: Mapping[str, Any], gate: int, revise: Revise, stays: Stays | None, boundary: AgentBoundary
    ) -> None:
        """Go on as after a gate that was opened with the same forecasts, from its snapshot. boundary: the agent's."""
        qp = self._compile(revise, stays=stays)
        check_array(kept["done"], (qp.size,), "done")
        self._done, self._gate, self._latest = kept["done"], gate, qp
        program, self.given_way = self._program.program(qp, gate, self._done)
        self.agent.revise(program)
        self.agent.prepare(boundary)
        self.agent.restore(kept["agent"])

    def _drawn(self, qp: QuadraticProgram, x: np.ndarray) -> np.ndarray:
        """What the powers in x and the latest loads add up to at the meter, (T,) in MW."""
        at = qp.boundary[self._coupling, "p_mw"]
        block = next(block for block in qp.rows if block.name.endswith(BALANCE))
        rows = sp.csr_matrix(qp.A)[block.entries]
        own = np.asarray(rows[np.arange(at.size), at]).ravel()
        others = rows @ x - own * x[at]
        return (qp.l[block.entries] - others) / own

    def cost_eur(self) -> float:
        """After the closing: own cost of what happened and of flexibility that was offered, EUR, without what gave
        way."""
        x = self._as_planned()
        return self.agent.qp.cost_eur(x) + self._program.terminal_eur(x)

    def relief_eur(self) -> float:
        """After the closing: what limits that had to give way cost."""
        return float(self._program.relief_eur(self.beyond()).sum())

    def beyond(self) -> dict[str, np.ndarray]:
        """By how much limits are exceeded by what happened, {variable: (T,)} in its unit, of those that are."""
        return self._program.beyond(self._latest, self.agent.x)

    def happened(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """After the closing: {variable: (T,)} and their units; by how much limits were exceeded as VARIABLE_beyond."""
        units, beyond = self.agent.units(), self.beyond()
        values = self.agent.qp.values(self._as_planned())
        values |= {f"{name}_beyond": amounts for name, amounts in beyond.items()}
        return values, units | {f"{name}_beyond": units[name] for name in beyond}

    def _as_planned(self) -> np.ndarray:
        """What happened, (n,), with flexibility as last offered before each period."""
        return np.where(self._program.awarded(self.agent.qp), self._done, self.agent.x)

    def last_states(self) -> dict[str, float]:
        """{variable: value} of every state at the end of the day."""
        values = self.agent.solution()
        return {name: float(values[name][-1]) for name in self._program.states}
