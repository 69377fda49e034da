"""One day on the market, run and measured: who paid what, and what moved. Everything is per feeder.

dso_upstream_eur   what the distribution operator pays the transmission operator: energy at all stages and
                   imbalance, less what it is paid for flexibility. What it costs to supply its communities and its
                   own load.
dso_net_eur        its own cost + all that it pays - all that it receives, so with communities' payments in it. It
                   supplies its own load, and nobody pays it for that here.
tso_reserve_eur    generators' reserve as last planned before each period, and what is paid for feeders' flexibility
community_eur      own cost + limits that gave way + paid - received, sum of all communities
whole_eur          own costs of all agents + limits that gave way + balancing power from outside; the sum of what
                   the day cost each agent
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from admm import InProcessTransport, Result, Settings
from admm.output import versions
from benchmarks.measure import machine
from networks.case import Case, coupling_name
from networks.market.day import DayOutcome, MarketDay, States
from networks.market.rules import MarketTable
from networks.market.settlement import CENTS_PER_EUR, PRODUCTS, Settlement, settle
from networks.market.uncertainty import Knowledge
from subproblems import QuadraticProgram
from subproblems.devices import PV

CAPACITY = tuple(product for product in PRODUCTS if "capacity" in product)
RESERVES = (".reserve_up_mw", ".reserve_down_mw")


@dataclass
class DayRow:
    """Costs as the module says. inside, beyond, contracted: of communities, see `Settlement.activated_mwh`; sold: held
    day-ahead at the substation, after losses and limits. reserve_short_mwh: MW that were asked for and not held, times
    hours. gates_not_converged: of all gates and the closing. status: "done", or the error; then there are no numbers.
    """

    study: str
    draw: int
    day: int = 0
    solver: str = "osqp"
    status: str = "done"
    dso_upstream_eur: float | None = None
    dso_net_eur: float | None = None
    dso_flexibility_income_eur: float | None = None
    tso_reserve_eur: float | None = None
    generators_reserve_eur: float | None = None
    community_eur: float | None = None
    whole_eur: float | None = None
    balancing_mwh: float | None = None
    balancing_eur: float | None = None
    inside_up_mwh: float | None = None
    inside_down_mwh: float | None = None
    beyond_up_mwh: float | None = None
    beyond_down_mwh: float | None = None
    contracted_up_mwh: float | None = None
    contracted_down_mwh: float | None = None
    sold_up_mwh: float | None = None
    sold_down_mwh: float | None = None
    pv_curtailed_mwh: float | None = None
    relief_eur: float | None = None
    reserve_short_mwh: float | None = None
    gates_not_converged: int | None = None
    day_ahead_converged: bool | None = None
    day_ahead_iterations: int | None = None
    median_gate_iterations: float | None = None
    seconds: float | None = None
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


@dataclass(frozen=True)
class RunDay:
    """A day that is over. results: {-1: day-ahead, gate: ...}, the closing last. reserve_eur: of generators."""

    day: MarketDay
    knowledge: Knowledge
    results: Mapping[int, Result]
    outcome: DayOutcome
    reserve_eur: float
    seconds: float


def run_day(
    case: Case, knowledge: Knowledge, table: MarketTable, settings: Settings, day_ahead: Settings, solver: str,
    states: States | None = None, threads: int = 1,
) -> RunDay:  # fmt: skip
    """All agents in this process. settings, day_ahead: of the gates and of the first run. Raises TielineError."""
    began = time.perf_counter()
    day = MarketDay(case, list(case.agents), knowledge, InProcessTransport(threads), table, states, solver)
    results = {-1: day.day_ahead(day_ahead)}
    (operator,) = case.folder.transmission
    held = HeldReserve(day.agents[operator.name].qp)
    for gate in day.gates(settings):
        results[gate.number] = gate.result
        held.plan(gate.number, day.intraday.transmission[operator.name].agent.solution())
    return RunDay(day, knowledge, results, day.outcome(), held.cost_eur(), time.perf_counter() - began)


class HeldReserve:
    """Reserve of generators as last planned before each period. qp: the day-ahead program, whose costs hold."""

    def __init__(self, qp: QuadraticProgram) -> None:
        self._qp, self._x = qp, np.zeros(qp.size)
        self._blocks = [block for block in qp.variables if block.name.endswith(RESERVES)]

    def plan(self, gate: int, solution: Mapping[str, np.ndarray]) -> None:
        """Take a gate's plan of all periods from it on."""
        for block in self._blocks:
            self._x[block.entries][gate:] = solution[block.name][gate:]

    def cost_eur(self) -> float:
        """Costs of variables add up, so those of reserve can be told from all others."""
        return self._qp.cost_eur(self._x) - self._qp.cost_eur(np.zeros(self._qp.size))


def measured(row: DayRow, run: RunDay) -> DayRow:
    """The row with all its numbers."""
    case, record = run.day.case, run.outcome.record
    settlement = settle(record, run.outcome.spread_eur_per_mwh)
    (network,) = case.folder.distribution
    above, net = coupling_name(network.name, network.upstream), settlement.net_eur()
    row.dso_upstream_eur = paid_eur(settlement, above, PRODUCTS)
    row.dso_net_eur = net[network.name]
    row.dso_flexibility_income_eur = -paid_eur(settlement, above, CAPACITY)
    row.generators_reserve_eur = run.reserve_eur
    row.tso_reserve_eur = row.generators_reserve_eur + row.dso_flexibility_income_eur
    row.community_eur = sum(net[name] for name in case.communities)
    row.balancing_eur = float(record.balancing_eur.sum())
    row.balancing_mwh = record.hours * float(np.abs(record.balancing_mw).sum())
    row.relief_eur = sum(record.relief_eur.values())
    row.whole_eur = sum(record.costs_eur.values()) + row.balancing_eur + row.relief_eur
    activated = settlement.activated_mwh()
    for what in ("inside_up", "inside_down", "beyond_up", "beyond_down", "contracted_up", "contracted_down"):
        below = (coupling_name(name, network.name) for name in case.communities)
        setattr(row, f"{what}_mwh", sum(activated[name][what] for name in below))
    row.sold_up_mwh, row.sold_down_mwh = (activated[above][f"contracted_{way}"] for way in ("up", "down"))
    row.pv_curtailed_mwh = curtailed_mwh(run)
    row.reserve_short_mwh = max(0.0, sum(run.outcome.reserve_short_mwh.values()))
    _count(row, run)
    return row


def _count(row: DayRow, run: RunDay) -> None:
    first, *gates, closing = (run.results[number] for number in sorted(run.results))
    row.day_ahead_converged, row.day_ahead_iterations = first.converged, first.iterations
    row.gates_not_converged = sum(not result.converged for result in (*gates, closing))
    row.median_gate_iterations = median(result.iterations for result in gates)
    row.seconds = round(run.seconds, 2)


def paid_eur(settlement: Settlement, coupling: str, products: Sequence[str]) -> float:
    """What the lower agent of a coupling pays the upper one for these products, net of all stages."""
    entries = settlement.entries
    at = entries["account"] == list(settlement.accounts).index(coupling)
    at &= np.isin(entries["product"], [PRODUCTS.index(product) for product in products])
    return int(entries["cents"][at].sum()) / CENTS_PER_EUR


def curtailed_mwh(run: RunDay) -> float:
    """What the sun that came would have given, less what communities took of it."""
    case, periods = run.day.case, run.day.case.horizon.periods

    def came(name: str, values: np.ndarray) -> np.ndarray:
        return run.knowledge.series.at_gate(name, values, periods)

    unused_kw = 0.0
    for name, community in run.day.intraday.communities.items():
        plants = [device.name for device in case.devices(name) if isinstance(device, PV)]
        qp, (happened, _) = case.community_program(name, came), community.happened()
        limits = {block.name: qp.u[block.entries] for block in qp.rows}
        for plant in plants:
            available_kw = limits[f"{plant}: available power limits"]
            unused_kw += float((available_kw - happened[f"{plant}.production_kw"]).sum())
    return case.horizon.hours * unused_kw / 1000.0
