"""Every gate of a day, from where the last one ended and from a cold start: `python -m benchmarks market_gates`.

The case as it is, with a gate before every period: 24 a day in steps of an hour and 96 in steps of 15 minutes, once
with perfect forecasts and once with errors (draw 0). The cold run of a gate solves the very same problem, with
fresh agents, from the engine's default start and to the same tolerances; in steps of 15 minutes at every 16th
gate. Writes results/market_gates.csv (a row a gate) and .md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

import admm
from admm import InProcessTransport, Result, Settings
from admm.output import versions
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.registry import chosen
from benchmarks.tables import made_with, markdown_table, write_csv
from networks.case import Case, load_case
from networks.distribution import DistributionAgent
from networks.market.day import MarketDay
from networks.market.gate_start import gate_settings
from networks.market.uncertainty import Uncertainty
from subproblems import QPAgent

FILE = "market_gates"
COLD_EVERY = {"ieee33-10ec": 1, "ieee33-10ec:winter-15min": 16}
"""Cases, and at which of their gates there is a cold run, too."""
FORECASTS = {"perfect": {"error": (), "ev_error": ()}, "errors": {}}
"""Changes of `[market]`."""
DRAW, THREADS = 0, 2
SETTINGS = Settings()
NOTE = (
    f"All agents in one process on {THREADS} threads. Seconds are of a whole gate: what has happened is frozen, "
    "programs are made anew, all are coordinated; the closing is counted in the total. Medians; `of cold`: a gate's "
    "iterations as a share of those of a cold run of the same gate, median over the gates that have one."
)


@dataclass
class GateRow:
    """gate: number of the period that it lies before; the closing has that after the last one. Cold: empty, not run."""

    case: str
    forecasts: str
    gate: int
    closing: bool
    converged: bool
    iterations: int
    seconds: float
    coordination_seconds: float
    cold_converged: bool | None = None
    cold_iterations: int | None = None
    cold_seconds: float | None = None
    solver: str = "osqp"
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


def run_market_gates(options: Options) -> list[dict[str, Any]]:
    """--subjects chooses cases; --resume and --again go by whole days."""
    path = options.out / f"{FILE}.csv"
    days: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in options.former_rows(path):
        days.setdefault((row["case"], row["forecasts"]), []).append(row)
    for name in chosen(tuple(COLD_EVERY), options.subjects, "case"):
        for forecasts in FORECASTS:
            if (name, forecasts) in days and not options.again:
                continue
            days[name, forecasts] = [asdict(row) for row in gate_rows(name, forecasts, options.solver)]
            rows = [row for day in days.values() for row in day]
            write_csv(path, rows)
            (options.out / f"{FILE}.md").write_text(markdown_table(summed(rows), NOTE, nothing="-"), encoding="utf-8")
    return [row for day in days.values() for row in day]


def gate_rows(name: str, forecasts: str, solver: str) -> Iterator[GateRow]:
    """A row a gate, and one of the closing."""
    case = load_case(name)
    table = case.table.market.model_copy(update=FORECASTS[forecasts])
    knowledge = Uncertainty(table).knowledge(case, DRAW)
    day = MarketDay(case, list(case.agents), knowledge, InProcessTransport(THREADS), table, solver=solver)
    former = first = day.day_ahead(SETTINGS).boundary
    began = time.perf_counter()
    for gate in day.gates(SETTINGS):
        seconds, result = time.perf_counter() - began, gate.result
        closing = gate.number == case.horizon.periods
        times = (round(seconds, 3), round(result.timing.wall, 3))
        row = GateRow(name, forecasts, gate.number, closing, result.converged, result.iterations, *times, solver=solver)
        if not closing and gate.number % COLD_EVERY[name] == 0:
            tolerance = gate_settings(SETTINGS, case.couplings, first, former, {}, gate.number).optimality_tolerance
            cold = cold_run(case, day, replace(SETTINGS, optimality_tolerance=tolerance), solver)
            row.cold_converged, row.cold_iterations = cold.converged, cold.iterations
            row.cold_seconds = round(cold.timing.wall, 3)
        print(" ".join(f"{key}={value}" for key, value in list(asdict(row).items())[:-2]), flush=True)
        yield row
        former, began = result.boundary, time.perf_counter()


def cold_run(case: Case, day: MarketDay, settings: Settings, solver: str) -> Result:
    """The problem of the gate that is open, by agents that know nothing of what was before."""
    market = day.intraday
    participants = {**market.communities, **market.transmission}
    agents = {name: QPAgent(each.agent.qp, solver=solver) for name, each in participants.items()}
    agents |= {name: DistributionAgent(feeder.model, solver=solver) for name, feeder in market.feeders.items()}
    return admm.solve(agents, case.couplings, settings, InProcessTransport(THREADS))


def summed(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line a day."""
    table = []
    for case, forecasts in dict.fromkeys((row["case"], row["forecasts"]) for row in rows):
        every = [row for row in rows if (row["case"], row["forecasts"]) == (case, forecasts)]
        gates = [row for row in every if not row["closing"]]
        cold = [row for row in gates if row["cold_iterations"] is not None]
        table.append({
            "case": case,
            "forecasts": forecasts,
            "solver": every[0]["solver"],
            "gates": len(gates),
            "not_converged": sum(not row["converged"] for row in gates),
            "total_seconds": sum(row["seconds"] for row in every),
            "seconds": median(row["seconds"] for row in gates),
            "most_seconds": max(row["seconds"] for row in gates),
            "iterations": median(row["iterations"] for row in gates),
            "most_iterations": max(row["iterations"] for row in gates),
            "cold_runs": len(cold),
            "cold_iterations": median(row["cold_iterations"] for row in cold),
            "cold_seconds": median(row["cold_seconds"] for row in cold),
            "of_cold": median(row["iterations"] / row["cold_iterations"] for row in cold),
            **made_with(rows),
        })  # fmt: skip
    return table
