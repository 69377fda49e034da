"""What the hubs' flexibility is worth: `python -m benchmarks flexibility`.

The same day, at the centralised optimum with true flows, with hubs whose devices are free to a growing degree:

    stand-alone     every hub keeps the schedule that is best for it alone at flat tariffs, and offers no flexibility
    storage         batteries, and heat stores with what feeds them, may move
    storage, cars   and the cars' charging
    all             and loads that can be shifted or met by either carrier, and buildings

Tariffs are the day's mean prices of electricity and gas. With one gas gate lost there may be no schedule at all without
flexibility: the row then says which constraints are in conflict. Writes results/flexibility.csv and .md: costs of
operators and hubs, losses and peak, and their change against the first line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

import admm
from admm.output import versions
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.registry import chosen
from benchmarks.tables import markdown_table, write_csv
from networks.case import Case, load_case
from networks.centralised import solve_centralised
from subproblems import Builder, QPAgent, QuadraticProgram
from subproblems.monolithic import solve_monolithic
from subproblems.quadratic_program import Block

FILE = "flexibility"
CASES = ("feeder118-gas65", "feeder118-gas65:summer", "feeder118-gas65:gate-lost")
STORAGE = ("battery", "heat_storage", "chp", "gas_boiler", "hub_heat_pump", "heat_dump")
EVERYTHING = None
LEVELS: dict[str, Collection[str] | None] = {
    "stand-alone": (),
    "storage": STORAGE,
    "storage, cars": (*STORAGE, "ev_fleet"),
    "all": EVERYTHING,
}
"""Kinds of devices that may leave the stand-alone schedule."""
PUBLISHED = {"operators_change": -0.1933, "losses_change": -0.0612}
"""Of the published system, at the most: another feeder loading, other hubs, prices and base case."""
BAND = 1e-6
"""How far a device that keeps its schedule may be from it, as a share of its scale: solvers round."""
MOST_WORDS = 160
METER = "connection"
TARIFF = "tariff"


@dataclass
class FlexibilityRow:
    """Costs in EUR over the day. operators: electricity and gas bought, less flexibility sold. hubs: their own costs
    (wear, running, curtailment, shifting), which with operators are the total; hub_bills: those and what they pay for
    power and gas, less what they get for flexibility, at the optimum's prices.

    losses_mwh, peak_mw: of the feeder. Changes are shares of the values of the case's first line that has any.
    status: "optimal", or why there is no schedule; then there are no numbers.
    """

    case: str
    level: str
    status: str
    total_eur: float | None = None
    operators_eur: float | None = None
    hubs_eur: float | None = None
    hub_bills_eur: float | None = None
    losses_mwh: float | None = None
    peak_mw: float | None = None
    gas_peak_mw: float | None = None
    total_change: float | None = None
    operators_change: float | None = None
    hub_bills_change: float | None = None
    losses_change: float | None = None
    peak_change: float | None = None
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)

    def against(self, first: FlexibilityRow | None) -> FlexibilityRow:
        if first is None or self.total_eur is None:
            return self
        keys = {"total_change": "total_eur", "operators_change": "operators_eur"}
        keys |= {"hub_bills_change": "hub_bills_eur", "losses_change": "losses_mwh", "peak_change": "peak_mw"}
        return replace(self, **{to: getattr(self, of) / getattr(first, of) - 1 for to, of in keys.items()})


def run_flexibility(options: Options) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name in chosen(CASES, options.subjects, "case"):
        case = load_case(name)
        alone = {hub: stand_alone(case, hub) for hub in case.communities}
        first = None
        for level, free in LEVELS.items():
            row = measured(case, level, {hub: held(case, hub, x, free) for hub, x in alone.items()})
            first = first or (row if row.total_eur is not None else None)
            rows.append(asdict(row.against(first)))
            print(rows[-1], flush=True)
        write_csv(options.out / f"{FILE}.csv", rows)
    operators, losses = (f"{PUBLISHED[key]:.2%}" for key in ("operators_change", "losses_change"))
    note = (
        "Changes are shares of the values of the case's first line that has any. "
        f"Published, at the most: operators {operators}, losses {losses}."
    )
    (options.out / f"{FILE}.md").write_text(markdown_table(rows, note, nothing="-"), encoding="utf-8")
    return rows


def measured(case: Case, level: str, programs: Mapping[str, QuadraticProgram]) -> FlexibilityRow:
    """As `measure`; where no schedule is feasible, a row that says why."""
    try:
        return measure(case, level, programs)
    except admm.InfeasibleError as error:
        return FlexibilityRow(case.name, level, str(error)[:MOST_WORDS])


def measure(case: Case, level: str, programs: Mapping[str, QuadraticProgram]) -> FlexibilityRow:
    """The optimum of all with these hubs."""
    agents = {name: case.build_agent(name) for name in case.operators} | {n: QPAgent(p) for n, p in programs.items()}
    found = solve_centralised(case, agents=agents)
    x = found.solution.x
    (dso,), (gas,) = case.folder.distribution, case.folder.gas
    feeder, gates = agents[dso.name].program, agents[gas.name].program.solution(x[gas.name])["gas.gate_flow_mw"]
    operators = sum(agents[name].program.cost_eur(x[name]) for name in case.operators)
    hubs = sum(programs[name].cost_eur(x[name]) for name in programs)
    return FlexibilityRow(
        case.name,
        level,
        "optimal",
        operators + hubs,
        operators,
        hubs,
        hubs + float(found.solution.price @ found.solution.value),
        losses_mwh=case.horizon.hours * float(feeder.losses_mw(x[dso.name]).sum()),
        peak_mw=float(x[dso.name][feeder.exchange["p_mw"]].max()),
        gas_peak_mw=float(gates.sum(axis=1).max()),
    )


def stand_alone(case: Case, hub: str) -> np.ndarray:
    """The schedule x (n,) that is best for a hub alone at flat tariffs."""
    program = case.build_agent(hub).qp
    couplings = [replace(c, upper=TARIFF) for c in case.couplings if c.lower == hub]
    return solve_monolithic({hub: program, TARIFF: _tariff(case, couplings)}, couplings).x[hub]


def _tariff(case: Case, couplings: list[admm.Coupling]) -> QuadraticProgram:
    """Sells at the day's mean prices, and buys no flexibility."""
    (dso,), gas = case.folder.distribution, case.folder.gas
    prices = {"p_mw": case.distribution_model(dso).upstream.price_eur_per_mwh.mean()}
    if gas:
        prices["gas_mw"] = case.gas_model(gas[0]).price_eur_per_mwh.mean()
    builder = Builder(TARIFF)
    for coupling in couplings:
        for quantity in coupling.quantities:
            name, limit = quantity.name, np.inf if quantity.name in prices else 0.0
            sold = builder.variable(f"{coupling.name}.{name}", quantity.periods, -limit, limit, unit=quantity.unit)
            builder.cost(sold, linear=case.horizon.hours * prices.get(name, 0.0))
            builder.boundary(coupling.name, name, sold)
    return builder.build()


def held(case: Case, hub: str, x: np.ndarray, free: Collection[str] | None) -> QuadraticProgram:
    """The hub's program with all devices but the free kinds kept at the schedule x."""
    program = case.build_agent(hub).qp
    if free is EVERYTHING:
        return program
    kinds = {device.name: device.kind for device in case.devices(hub)}
    kept = [b for b in program.variables if kinds.get(b.name.partition(".")[0], METER) not in (METER, *free)]
    at = np.concatenate([np.arange(b.start, b.start + b.length) for b in kept] or [np.empty(0, int)])
    scale = program.variable_scale[at]
    rows = sp.csc_matrix((np.ones(at.size), (np.arange(at.size), at)), (at.size, program.size))
    return replace(
        program,
        A=sp.vstack([program.A, rows], format="csc"),
        l=np.concatenate([program.l, x[at] - BAND * scale]),
        u=np.concatenate([program.u, x[at] + BAND * scale]),
        row_scale=np.concatenate([program.row_scale, scale]),
        rows=(*program.rows, Block("kept as alone", program.l.size, at.size)),
    )
