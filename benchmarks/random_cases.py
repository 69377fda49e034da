"""Random cases: does a run find the optimum of the whole, and does the centralised solve? `python -m benchmarks
random_cases`.

Cases of `case_generator`, each solved with default settings and centrally. A case whose limits cannot hold has to be
called infeasible by both. Writes results/random_cases.csv (a row a case) and .md (a row a kind of case).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import admm
from admm.cli import natural_number, whole_number
from admm.couplings import Layout
from admm.output import versions
from admm.updates import turnover_floor
from benchmarks.case_generator import write_case
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.tables import made_with, markdown_table, read_csv, write_csv
from networks.case import Case, CaseAgent, load_case
from networks.centralised import Centralised, solve_centralised
from networks.distribution import DistributionAgent
from networks.feeder_limits import margins

FILE = "random_cases"
COUNT, TOLERANCE = 300, 1e-4
INFEASIBLE, AGREED = "INFEASIBLE", ("CONVERGED", "CERTIFIED", "AGREED")
FAILURES = {
    "stuck": "the run has not converged, the centralised solve has",
    "no optimum": "the centralised solve failed, the run has converged",
    "both": "both failed, and not both call the case infeasible",
    "apart": f"the objectives are further apart than {TOLERANCE:g} of the turnover and the run's schedule_cost_gap",
    "beaten": f"the run's schedule costs less than the optimum, by more than {TOLERANCE:g} of the turnover",
}
KINDS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "prices flat": lambda row: row["prices"] == "flat",
    "prices usual": lambda row: row["prices"] == "usual",
    "prices from -500 to 3000": lambda row: row["prices"] == "swinging",
    "flexibility paid": lambda row: row["flexibility_paid"],
    "flexibility not paid": lambda row: not row["flexibility_paid"],
    "tight limits": lambda row: row["tight"],
    "a limit binds": lambda row: bool(row["binds"]),
    "reactive support": lambda row: row["supports"] > 0,
    "reactive support, prices from -500": lambda row: row["supports"] > 0 and row["prices"] == "swinging",
    "hubs": lambda row: row["hubs"] > 0,
    "gas": lambda row: row["gas"],
    "an agent below 1 kW": lambda row: row["least_kw"] < 1.0,
    "sizes 1000 times apart": lambda row: row["most_kw"] > 1000.0 * row["least_kw"],
    "1 to 3 periods": lambda row: row["periods"] <= 3,
    "12 or more periods": lambda row: row["periods"] >= 12,
    "all": lambda row: True,
}
"""A case belongs to several."""
NOTE = (
    "Random cases by kind, see case_generator.py; a case belongs to several kinds. Each is run with default settings "
    "and solved centrally. infeasible: both say so. Failures: "
    + "; ".join(f"{name}: {words}" for name, words in FAILURES.items())
    + ". gap: the run's objective less the optimum, as a share of the turnover (with its floor): median and largest "
    "size. iterations, corrections, seconds (run, centralised): median and largest. Where losses are paid for at a "
    "negative price, reactive support that wastes energy has several best points, and both may find another one."
)


@dataclass(frozen=True)
class Outcome:
    """How a run or a central solve ended. found: what it found, None after an error. words: of the error."""

    status: str
    found: Any
    words: str
    seconds: float


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=whole_number, default=COUNT, metavar="N", help="how many cases")
    parser.add_argument("--first", type=natural_number, default=0, metavar="SEED", help="the first case")


def run_random_cases(options: Options) -> None:
    path, first = options.out / f"{FILE}.csv", options.own["first"]
    rows = {row["seed"]: row for row in options.former_rows(path)}
    todo = [seed for seed in range(first, first + options.own["count"]) if options.again or seed not in rows]
    for row in _measured(todo, options):
        rows[row["seed"]] = row
        write_csv(path, [rows[seed] for seed in sorted(rows)])
        figures = (row[key] for key in ("status", "iterations", "optimum", "gap", "run_seconds", "optimum_seconds"))
        print(row["seed"], *figures, row["failure"], flush=True)
    (options.out / f"{FILE}.md").write_text(table(read_csv(path)))


def _measured(todo: Sequence[int], options: Options) -> Iterator[dict[str, Any]]:
    with ProcessPoolExecutor(options.processes or 1) as pool:
        yield from pool.map(row_of, todo)


def row_of(seed: int) -> dict[str, Any]:
    """Run one case and solve it centrally; its row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        traits = write_case(seed, Path(folder) / "case")
        case = load_case(str(Path(folder) / "case"))
        agents: dict[str, CaseAgent] = {}
        run = _outcome(lambda: _run(case, agents))
        optimum = _outcome(lambda: solve_centralised(case))
    own = {"seed": seed, "failure": "", **asdict(traits), **_of_run(run, agents), **_of_optimum(optimum)}
    gaps = _gaps(case, run, optimum)
    row = own | gaps | {"words": run.words or optimum.words, "versions": versions(), "machine": machine()}
    return row | {"failure": failure(row)}


def _run(case: Case, agents: dict[str, CaseAgent]) -> admm.Result:
    """Make the agents and the run."""
    agents |= {name: case.build_agent(name) for name in case.agents}
    return admm.solve(agents, case.couplings)


def _outcome(work: Callable[[], Any]) -> Outcome:
    began = time.perf_counter()
    try:
        found, words = work(), ""
    except admm.TielineError as error:
        found, words = error, " ".join(str(error).split())
    seconds = round(time.perf_counter() - began, 3)
    if isinstance(found, admm.Result):
        return Outcome(found.status.name, found, found.note, seconds)
    if not isinstance(found, admm.TielineError):
        return Outcome("SOLVED", found, "", seconds)
    infeasible = isinstance(found, admm.InfeasibleError)
    return Outcome(INFEASIBLE if infeasible else type(found).__name__, None, words, seconds)


def _of_run(run: Outcome, agents: Mapping[str, CaseAgent]) -> dict[str, Any]:
    """binds: limits of the feeder that bind in the schedule."""
    result: admm.Result | None = run.found
    return {
        "status": run.status,
        "iterations": result and result.iterations,
        "objective_eur": result and result.objective,
        "schedule_cost_eur": result and result.schedule_cost.eur,
        "schedule_cost_gap": result and result.schedule_cost.gap,
        "binds": result and _binding(agents["dso"]),
        "run_seconds": run.seconds,
    }


def _binding(operator: DistributionAgent) -> int:
    """How many buses, branches and substations are at a limit at the exact flow of the schedule."""
    _, scheduled = operator.latest()
    found = margins(operator.program.model, operator.program.exact_flow(scheduled))
    return sum(one.beyond > -one.allowed for one in found)


def _of_optimum(optimum: Outcome) -> dict[str, Any]:
    central: Centralised | None = optimum.found
    return {
        "optimum": optimum.status,
        "corrections": central and central.corrections,
        "optimum_eur": central and central.solution.objective_eur,
        "flow_error": central and central.flow_error,
        "optimum_seconds": optimum.seconds,
    }


def _gaps(case: Case, run: Outcome, optimum: Outcome) -> dict[str, float | None]:
    """gap, schedule_gap: of the run's objective and of its schedule's cost from the optimum, shares of its turnover."""
    if run.found is None or optimum.found is None:
        return dict.fromkeys(("turnover_eur", "gap", "schedule_gap"))
    solution, schedule = optimum.found.solution, run.found.schedule_cost.eur
    turnover = max(solution.turnover_eur, turnover_floor(Layout(case.couplings)))
    gaps = [
        None if cost is None else (cost - solution.objective_eur) / turnover for cost in (run.found.objective, schedule)
    ]
    return {"turnover_eur": turnover, "gap": gaps[0], "schedule_gap": gaps[1]}


def failure(row: Mapping[str, Any]) -> str:
    """Which of FAILURES a row is; empty for none."""
    ran, solved = row["status"] in AGREED, row["optimum"] == "SOLVED"
    if not (ran and solved):
        ended = {(True, False): "no optimum", (False, True): "stuck", (False, False): "both"}[ran, solved]
        return "" if (row["status"], row["optimum"]) == (INFEASIBLE, INFEASIBLE) else ended
    if (row["schedule_gap"] or 0.0) < -TOLERANCE:
        return "beaten"
    return "apart" if abs(row["gap"]) > TOLERANCE + abs(row["schedule_cost_gap"] or 0.0) else ""


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line a kind."""
    kinds = {name: [row for row in rows if belongs(row)] for name, belongs in KINDS.items()}
    lines = [_line(name, found) | made_with(rows) for name, found in kinds.items() if found]
    return markdown_table(lines, NOTE, nothing="-")


def _line(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    gaps = [abs(row["gap"]) for row in rows if row["gap"] is not None and row["status"] in AGREED]
    return {
        "kind": name,
        "cases": len(rows),
        "converged": sum(row["status"] in AGREED for row in rows),
        "solved": sum(row["optimum"] == "SOLVED" for row in rows),
        "infeasible": sum(row["status"] == row["optimum"] == INFEASIBLE for row in rows),
        **{one: sum(row["failure"] == one for row in rows) for one in FAILURES},
        "gap": _median_and_most(gaps, "{:.0e}"),
        "iterations": _median_and_most([row["iterations"] for row in rows], "{:.0f}"),
        "corrections": _median_and_most([row["corrections"] for row in rows], "{:.0f}"),
        "run seconds": _median_and_most([row["run_seconds"] for row in rows], "{:.1f}"),
        "centralised seconds": _median_and_most([row["optimum_seconds"] for row in rows], "{:.1f}"),
    }


def _median_and_most(values: Sequence[float | None], words: str) -> str:
    known = [value for value in values if value is not None]
    return " / ".join(words.format(value) for value in (np.median(known), max(known))) if known else "-"
