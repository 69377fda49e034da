"""One day of both markets, for the agents of this rank: day-ahead, the intra-day gates, and what is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

import admm
from admm import InfeasibleError, InputError, Result, Settings, SolverError, Transport
from admm.couplings import Layout
from admm.fits import check_array
from networks.case import Case, CaseAgent, Revise, as_it_stands, coupling_name
from networks.market.alone import SettledPrices
from networks.market.intraday import ENDED_EARLY, Gate, IntradayMarket
from networks.market.record import Boundary, DayRecord, Ends
from networks.market.rules import DayAheadPrices, MarketTable, spread
from networks.market.settlement import Settlement
from networks.market.tariffs import ENERGY, response, value_eur
from networks.market.uncertainty import Knowledge
from subproblems import QPAgent, QuadraticProgram
from subproblems.ev_error import Stays

NOT_REALISED = ("up.", "down.")
"""Flows with flexibility called, which the closing has none of."""
FLEXIBILITY = "flex_"

States = Mapping[str, Mapping[str, float]]
"""{agent: {state's variable: value}} at a day's start."""


@dataclass(frozen=True)
class DayOutcome:
    """What a day came to. spread_eur_per_mwh: (T,), of imbalance. day_ahead_eur: own cost of the day-ahead schedule.
    standalone_eur: own cost and energy at the day-ahead prices of a community that offers no flexibility.
    reserve_short_mwh: per feeder, as all of it is. All but the record and the spread by agent."""

    record: DayRecord
    spread_eur_per_mwh: np.ndarray
    day_ahead_eur: Mapping[str, float]
    standalone_eur: Mapping[str, float]
    reserve_short_mwh: Mapping[str, float]


def check_market_case(case: Case) -> None:
    """Raises InputError where the market stages do not know a case's networks."""
    where, transmission = case.folder.path, case.folder.transmission
    if case.folder.gas:
        raise InputError(
            f"{where}: has the gas network '{case.folder.gas[0].name}', but the market knows electricity only; "
            "use 'tieline run'"
        )
    if len(transmission) != 1:
        raise InputError(
            f"{where}: has {len(transmission)} transmission networks, expected one, whose prices the market uses"
        )
    alone = [n.name for n in case.folder.distribution if n.upstream is None]
    if alone:
        raise InputError(f"{where}: network '{alone[0]}' has no upstream, expected '{transmission[0].name}'")


class MarketDay:
    """One day, for the agents of this rank. agents: those of the day-ahead market. reached: the gate that was held
    last, -1 for the day-ahead market.

    Args:
        owned: names of the agents of this rank.
        states: where stores begin, if not as the agents' files say.
    """

    def __init__(
        self,
        case: Case,
        owned: list[str],
        knowledge: Knowledge,
        transport: Transport,
        table: MarketTable | None = None,
        states: States | None = None,
        solver: str = "osqp",
    ) -> None:
        check_market_case(case)
        self.case, self.transport, self._knowledge, self._solver = case, transport, knowledge, solver
        self.table = case.table.market if table is None else table
        self._states = states or {}
        self.agents: dict[str, CaseAgent] = {name: self._build(name) for name in owned}
        self.standalone_eur: dict[str, float] = {}
        self._gates: dict[int, Boundary] = {}
        self.intraday: IntradayMarket | None = None
        self.reached = -1

    def _build(self, name: str) -> CaseAgent:
        if name not in self.case.communities:
            return self.case.build_agent(name, self._solver)
        return QPAgent(self._program(name, as_it_stands, stays=None), solver=self._solver)

    def _program(self, name: str, revise: Revise, *, stays: Stays | None) -> QuadraticProgram:
        return self.case.community_program(name, revise, self._states.get(name), stays)

    def day_ahead(self, settings: Settings) -> Result | None:
        """Energy and flexibility capacity, cleared together. The result on the driving rank."""
        result = admm.solve(self.agents, self.case.couplings, settings, self.transport)
        self._day_ahead = None if result is None else result.boundary
        if self.transport.has_result:
            self._day_ahead_eur = {name: agent.cost_eur() for name, agent in self.agents.items()}
            shared = self._learn_prices()
            for name in self.case.communities.keys() & self.agents.keys():
                self.standalone_eur[name] = self._standalone_eur(name, shared)
        return result

    def _learn_prices(self) -> dict[str, dict[str, np.ndarray]]:
        """Share the day-ahead prices with every rank, {coupling: {quantity: (T,)}}."""
        prices = {}
        if self._day_ahead is not None:
            prices = {c: {q: list(v.price) for q, v in quantities.items()} for c, quantities in self._day_ahead.items()}
        told = json.loads(self.transport.share_text(json.dumps(prices)))
        shared = {c: {q: np.array(v) for q, v in quantities.items()} for c, quantities in told.items()}
        above = [coupling_name(n.name, n.upstream) for n in self.case.folder.supplied]
        self.prices = DayAheadPrices.of([shared[name] for name in above], self.case.horizon.hours)
        return shared

    def _standalone_eur(self, name: str, prices: Mapping[str, Mapping[str, np.ndarray]]) -> float:
        """Own cost and energy at the day-ahead prices, if it offers no flexibility."""
        boundary = Layout(self.case.couplings).boundary(name)
        paid = {(c, q): prices[c][q] if q == "p_mw" else np.zeros(periods) for c, q, periods in boundary.keys}
        return -value_eur(response(name, self.agents[name], boundary, paid), paid)

    def gates(self, settings: Settings) -> Iterator[Gate]:
        """Hold the intra-day gates that are left, and the closing; see `IntradayMarket.gates`."""
        self.intraday = self.intraday or self._intraday_market()
        former = self._gates.get(self.reached)
        for gate in self.intraday.gates(self._day_ahead, settings, self.reached, former):
            if gate.status not in ENDED_EARLY:
                self.reached = gate.number
            if gate.result is not None:
                self._gates[gate.number] = gate.result.boundary
            yield gate

    def _intraday_market(self) -> IntradayMarket:
        case, agents, solver = self.case, self.agents, self._solver
        known = (self.prices, self._knowledge, self.table)
        return IntradayMarket(case, agents, *known, self.transport, self._program, solver)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Return what the rest of the day depends on of each agent of this rank; it is private to its owner."""
        return {name: self._snapshot_of(name) for name in self.agents}

    def _snapshot_of(self, name: str) -> dict[str, Any]:
        agent = self.agents[name]
        kept = {
            "states": dict(self._states.get(name, {})),
            "day_ahead_eur": self._day_ahead_eur[name],
            "standalone_eur": self.standalone_eur.get(name),
        }
        if self.intraday is None:
            return {**kept, "agent": agent.snapshot()}
        own = {"x": agent.x} if isinstance(agent, QPAgent) else {}
        return {**kept, **own, "day": self.intraday.snapshot(name)}

    def restore(
        self, kept: Mapping[str, Mapping[str, Any]], reached: int, boundaries: Mapping[int, Boundary] | None
    ) -> None:
        """Go on after a gate, from the snapshots of this rank's agents; called on every rank.

        Args:
            kept: {agent: snapshot}, of a day whose stores began at the same states.
            reached: the gate, -1 for the day-ahead market.
            boundaries: what each gate up to this one agreed on, on the driving rank.
        """
        self.reached, self._gates = reached, dict(boundaries or {})
        self._day_ahead = self._gates.pop(-1, None)
        self._day_ahead_eur = {name: kept[name]["day_ahead_eur"] for name in self.agents}
        alone = {name: kept[name]["standalone_eur"] for name in self.agents}
        self.standalone_eur = {name: eur for name, eur in alone.items() if eur is not None}
        self._learn_prices()
        if reached < 0:
            layout = Layout(self.case.couplings)
            for name, agent in self.agents.items():
                agent.prepare(layout.boundary(name))
                agent.restore(kept[name]["agent"])
            return
        for name, agent in self.agents.items():
            if isinstance(agent, QPAgent):
                check_array(kept[name]["x"], (agent.qp.size,), "x")
                agent.x = kept[name]["x"]
        self.intraday = self._intraday_market()
        self.intraday.restore({name: kept[name]["day"] for name in self.agents}, reached)

    def alone(self, settlement: Settlement | None) -> dict[str, float]:
        """Find what the settled day would have cost each community alone, EUR; of all on the driving rank.

        Every rank takes part. A community that cannot do without its neighbours in some gate is left out.

        Args:
            settlement: of the day, on the driving rank.
        """
        told = json.loads(self.transport.share_text(json.dumps({} if settlement is None else self._prices(settlement))))
        found = {}
        for name in self.intraday.communities:
            prices = SettledPrices.of_lists(*told[coupling_name(name, self.case.communities[name].network)])
            agent = QPAgent(self._program(name, as_it_stands, stays=None), solver=self._solver)
            with suppress(SolverError, InfeasibleError):
                found[name] = self.intraday.alone(name, agent, prices)
        every = [json.loads(text) for text in self.transport.gather_text(json.dumps(found))]
        return {name: eur for one in every for name, eur in one.items()}

    def _prices(self, settlement: Settlement) -> dict[str, tuple[dict[int, list[float]], list[float]]]:
        """Of energy at every coupling: {coupling: ({gate: EUR per MW and period}, the same of imbalance)}."""
        steps = {-1: self._day_ahead, **{n: of for n, of in self._gates.items() if n < self.case.horizon.periods}}
        imbalance = settlement.imbalance_eur_per_mwh * self.case.horizon.hours
        return {
            name: ({n: of[name][ENERGY].price.tolist() for n, of in steps.items()}, price.tolist())
            for name, price in zip(settlement.record.couplings, imbalance, strict=True)
        }

    def realised_series(self, name: str, values: np.ndarray) -> np.ndarray:
        """Return what a series of the case came to, (T,). values: its day-ahead forecast."""
        return self._knowledge.series.at_gate(name, values, self.case.horizon.periods)

    def happened(self) -> dict[str, tuple[dict[str, np.ndarray], dict[str, str], float | None]]:
        """Return what this rank's agents did, after the closing: {agent: (values, units, own cost)}; private."""
        day, found = self.intraday, {}
        for name, community in day.communities.items():
            found[name] = (*community.happened(), community.cost_eur())
        for name, operator in day.transmission.items():
            found[name] = (*operator.happened(), operator.cost_eur())
        for name, feeder in day.feeders.items():
            values = {key: one for key, one in feeder.solution().items() if not key.startswith(NOT_REALISED)}
            values = {key: one for key, one in values.items() if FLEXIBILITY not in key}
            units = feeder.units()
            found[name] = (values, {key: units[key] for key in values}, feeder.cost_eur())
        return found

    def states(self) -> dict[str, dict[str, float]]:
        """After the closing: where the stores of this rank's communities end."""
        return {name: day.last_states() for name, day in self.intraday.communities.items()}

    def outcome(self) -> DayOutcome | None:
        """After the closing, on every rank; what came of the day on the driving one."""
        told = [json.loads(text) for text in self.transport.gather_text(json.dumps(self._facts()))]
        if self._day_ahead is None:
            return None
        facts = {key: {name: value for one in told for name, value in one[key].items()} for key in told[0]}
        keys = ("day_ahead_eur", "standalone_eur", "reserve_short_mwh")
        return DayOutcome(self._record(facts), spread(self.table, self.prices.energy), *(facts[key] for key in keys))

    def _record(self, facts: Mapping[str, Mapping]) -> DayRecord:
        case, (balancing,) = self.case, facts["balancing"].values()
        feeders = {n.name: n.feeders for n in case.folder.distribution}
        *gates, closing = self._gates.values()
        return DayRecord(
            start=case.horizon.start,
            hours=case.horizon.hours,
            couplings={c.name: Ends(c.lower, c.upper, feeders.get(c.lower, 1)) for c in case.couplings},
            day_ahead=self._day_ahead,
            gates=tuple(gates[period // self.intraday.clock.every] for period in range(case.horizon.periods)),
            closing=closing,
            balancing_mw=np.array(balancing["mw"]),
            balancing_eur=np.array(balancing["eur"]),
            costs_eur=facts["cost_eur"],
            relief_eur=facts["relief_eur"],
        )

    def _facts(self) -> dict[str, dict]:
        """What the agents of this rank tell of the day: scalars, and of the transmission operator its balancing."""
        day, told = self.intraday, {"day_ahead_eur": self._day_ahead_eur, "standalone_eur": self.standalone_eur}
        every = {**day.communities, **day.feeders, **day.transmission}
        told["cost_eur"] = {name: each.cost_eur() for name, each in every.items()}
        told["relief_eur"] = {name: community.relief_eur() for name, community in day.communities.items()}
        balancing = {name: operator.balancing() for name, operator in day.transmission.items()}
        told["balancing"] = {name: {"mw": list(mw), "eur": list(eur)} for name, (mw, eur) in balancing.items()}
        told["reserve_short_mwh"] = {name: operator.short_mwh for name, operator in day.transmission.items()}
        return told
