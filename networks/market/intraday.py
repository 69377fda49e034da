"""The intra-day market: at every gate all agents are coordinated again, from where the last gate left them.

At gate g, before period g, what has happened is frozen, forecasts are updated, and the rest of the day is agreed on
once more. Programs keep their pattern: only numbers change. After the last period a closing step freezes everything:
what was really exchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

import admm
from admm import Result, Settings, Status, TielineError, Transport
from admm.couplings import Layout
from networks.case import Case, CaseAgent, coupling_name
from networks.case_tables import TransmissionTable
from networks.distribution import DistributionAgent, DistributionModel
from networks.market.alone import SettledPrices, alone_eur, plan_at
from networks.market.community_day import CommunityDay
from networks.market.gate_start import Boundary, gate_settings
from networks.market.intraday_program import Relief
from networks.market.intraday_transmission import TransmissionDay
from networks.market.rules import Clock, DayAheadPrices, MarketTable, terminal_eur_per_kwh
from networks.market.uncertainty import Knowledge
from subproblems import QPAgent, QuadraticProgram

ENDED_EARLY = (Status.INTERRUPTED, Status.STOPPED)
"""How a coordination ends that has to be done again: nothing follows from it."""


@dataclass(frozen=True)
class Gate:
    """What one gate agreed on. result: on the driving rank. status: on every rank."""

    number: int
    result: Result | None
    status: Status


class IntradayMarket:
    """The gates of one day, for the agents that live on this rank.

    agents: those of the day-ahead run, with their schedules. prices: on every rank. compiled: gives a community's
    program from its name, a Revise and `stays`. closed: whether the closing is done.
    """

    def __init__(
        self,
        case: Case,
        agents: Mapping[str, CaseAgent],
        prices: DayAheadPrices,
        knowledge: Knowledge,
        table: MarketTable,
        transport: Transport,
        compiled: Callable[..., QuadraticProgram],
        solver: str = "osqp",
    ) -> None:
        self._case, self._knowledge, self._table, self._transport = case, knowledge, table, transport
        self.clock, self._solver, self._prices = Clock.of(table, case.horizon), solver, prices
        self._compiled, self.closed = compiled, False
        self.communities = {name: self._community(name, agents[name]) for name in case.communities if name in agents}
        self.feeders: dict[str, DistributionAgent] = {
            n.name: agents[n.name] for n in case.folder.distribution if n.name in agents
        }
        self.transmission = {
            n.name: self._operator(n, agents[n.name]) for n in case.folder.transmission if n.name in agents
        }
        self.agents = {**self.feeders, **{n: day.agent for n, day in (self.communities | self.transmission).items()}}

    def _community(self, name: str, agent: QPAgent) -> CommunityDay:
        table, hours = self._table, self._case.horizon.hours
        relief = Relief(table.state_relief_eur_per_kwh, table.connection_relief_eur_per_mwh)
        coupling = coupling_name(name, self._case.communities[name].network)
        value = terminal_eur_per_kwh(table, self._prices)
        return CommunityDay(agent, partial(self._compiled, name), coupling, hours, relief, value)

    def alone(self, name: str, agent: QPAgent, prices: SettledPrices) -> float:
        """Find what the day costs a community that sees these prices only, EUR. agent: with its day-ahead program."""
        coupling = coupling_name(name, self._case.communities[name].network)
        boundary = Layout(self._case.couplings).boundary(name)
        agent.prepare(boundary)
        planned_mw = plan_at(agent, coupling, boundary, prices.steps[-1])
        day = self._community(name, agent)

        def plans() -> Iterator[tuple[int, np.ndarray]]:
            for gate in self.numbers():
                known = self.clock.known(gate)
                day.open(gate, known, self._known(gate), self._knowledge.stays(known))
                price = prices.steps.get(gate, np.zeros(self.clock.periods))
                yield gate, plan_at(agent, coupling, boundary, price)

        return alone_eur(day, plans(), planned_mw, prices)

    def _operator(self, network: TransmissionTable, agent: QPAgent) -> TransmissionDay:
        model, compiled = self._case.transmission_model(network), self._case.transmission_program
        return TransmissionDay(model, compiled, agent.x, self._table, self._prices, self.clock.notice, self._solver)

    def numbers(self) -> tuple[int, ...]:
        """List the gates, then the closing."""
        return (*self.clock.gates(), self.clock.periods)

    def gates(
        self, day_ahead: Boundary | None, settings: Settings, after: int = -1, former: Boundary | None = None
    ) -> Iterator[Gate]:
        """Hold gate by gate, then the closing; none after one that ended early.

        Args:
            day_ahead: the result's boundary, on the driving rank.
            settings: of every coordination.
            after: the gates up to this one are over.
            former: what that gate agreed on, on the driving rank; day_ahead if no gate is over.
        """
        former = day_ahead if former is None else former
        for number in (n for n in self.numbers() if n > after):
            changes = self._open(number)
            now = settings
            if former is not None:
                now = gate_settings(settings, self._case.couplings, day_ahead, former, changes, number)
            result = admm.solve(self.agents, self._case.couplings, now, self._transport)
            former = None if result is None else result.boundary
            if not self._transport.has_result:
                yield Gate(number, None, Status.STOPPED)  # the driving rank raises what ended it
                return
            status = shared_status(self._transport, result)
            self.closed = number == self.clock.periods and status not in ENDED_EARLY
            yield Gate(number, result, status)
            if status in ENDED_EARLY:
                return

    def _open(self, gate: int) -> dict[str, np.ndarray]:
        """Every agent takes what has happened and the latest forecasts; by how much couplings change, {name: (T,)}.

        However it ends, every rank hands in one report, so none waits for another in vain.
        """
        report: dict[str, list[float]] = {}
        try:
            report = {name: list(change) for name, change in self._changes(gate).items()}
        except TielineError as error:
            self._transport.gather_text(json.dumps(report))
            self._transport.refuse(error)
            raise
        return self._added(self._transport.gather_text(json.dumps(report)))

    def _known(self, gate: int) -> Callable[[str, np.ndarray], np.ndarray]:
        """Return what gives the latest forecast of a series."""
        known = self.clock.known(gate)

        def revise(name: str, values: np.ndarray) -> np.ndarray:
            return self._knowledge.series.at_gate(name, values, known)

        return revise

    def _feeder_model(self, name: str, gate: int, support_was_mvar: Mapping[str, np.ndarray]) -> DistributionModel:
        model = self._case.distribution_model(self._case.operators[name], self._known(gate))
        return replace(model, periods_over=gate, support_was_mvar=support_was_mvar)

    def snapshot(self, name: str) -> dict[str, Any]:
        """Return what the gates to come depend on of one agent of this rank; it is private to its owner."""
        if name in self.feeders:
            feeder = self.feeders[name]
            return {"support_was_mvar": dict(feeder.model.support_was_mvar), "agent": feeder.snapshot()}
        return (self.communities | self.transmission)[name].snapshot()

    def restore(self, kept: Mapping[str, Mapping[str, Any]], gate: int) -> None:
        """Go on as after this gate, or the closing, from the snapshots of this rank's agents."""
        layout, revise, known = Layout(self._case.couplings), self._known(gate), self.clock.known(gate)
        for name, feeder in self.feeders.items():
            feeder.revise(self._feeder_model(name, gate, kept[name]["support_was_mvar"]))
            feeder.prepare(layout.boundary(name))
            feeder.restore(kept[name]["agent"])
        for name, day in self.transmission.items():
            load_mw = self._case.transmission_model(self._case.operators[name], revise).load_mw
            day.restore(kept[name], gate, load_mw, layout.boundary(name))
        for name, day in self.communities.items():
            day.restore(kept[name], gate, revise, self._knowledge.stays(known), layout.boundary(name))
        self.closed = gate == self.clock.periods

    def _changes(self, gate: int) -> dict[str, np.ndarray]:
        """Of communities' couplings, and of the own load of distribution operators by their couplings upwards."""
        known, revise, found = self.clock.known(gate), self._known(gate), {}
        for name, feeder in self.feeders.items():
            model = self._feeder_model(name, gate, feeder.support_mvar())
            found[model.exchange_name] = (model.load_p_mw - feeder.model.load_p_mw).sum(axis=1)
            feeder.revise(model)
        for name, day in self.transmission.items():
            day.open(gate, self._case.transmission_model(self._case.operators[name], revise).load_mw)
        for name, day in self.communities.items():
            coupling = coupling_name(name, self._case.communities[name].network)
            found[coupling] = day.open(gate, known, revise, self._knowledge.stays(known))
        return found

    def _added(self, reports: list[str]) -> dict[str, np.ndarray]:
        """All ranks' changes; what is below a distribution operator changes its own coupling upwards, too."""
        told = {name: np.array(change) for text in reports for name, change in json.loads(text).items()}
        for name, agent in self._case.communities.items():
            upper = self._case.operators[agent.network].upstream
            below = coupling_name(name, agent.network)
            if upper is not None and below in told and coupling_name(agent.network, upper) in told:
                above = coupling_name(agent.network, upper)
                told[above] = told[above] + told[below]
        return told


def shared_status(transport: Transport, result: Result | None) -> Status:
    """How a run ended, on every rank. result: on the driving one."""
    return Status[transport.share_text("" if result is None else result.status.name)]
