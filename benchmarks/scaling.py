"""From 10 to 1000 hubs: exchanges, time a hub, and time against monolithic solvers, `python -m benchmarks scaling`.

Problems of generate.py: the same feeder and the same power in more and more pieces. Everything runs one after the
other on the same cores: the stacked problem by each solver (monolithic_solvers.py), then ADMM with its defaults from
a cold start, until the yardstick. "Same accuracy" for all: objective within 1e-4 of the turnover, violation of rows
and couplings at most 1e-3 of scale. What is not that accurate within the time limit is "not reached", and stays in.
Writes results/scaling.csv, .md and two figures.
"""

from __future__ import annotations

import argparse
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import admm
from admm.cli import natural_number, positive_number, whole_number
from admm.output import versions
from admm.transport import available_cores
from benchmarks.figures import draw_lines
from benchmarks.generate import generate
from benchmarks.measure import GAP_OF_TURNOVER, MISMATCH_OF_SCALE, Row, cold_start, machine, measure
from benchmarks.monolithic_solvers import REFERENCE, SOLVERS, TIME_LIMIT_SECONDS, Stacked, solve_whole, stack
from benchmarks.options import Options
from benchmarks.subjects import Problem
from benchmarks.tables import BELOW_THE_TABLE, markdown_table, write_csv

HUBS, PERIODS, CAP, FILE = (10, 50, 200, 1000), (24, 96), 300, "scaling"
IN_PROCESS = {"ADMM, OSQP agents, threads": "osqp", "ADMM, PIQP agents, one thread": "piqp"}
RANKS = 2
OVER_MPI = {f"ADMM, OSQP agents, {RANKS} ranks": "osqp", f"ADMM, PIQP agents, {RANKS} ranks": "piqp"}


@dataclass
class ScalingRow:
    """One method on one problem. seconds: to the accuracy, for ADMM from the making of the agents; None if not reached.

    agents, operators, engine seconds: where ADMM's time went, on the driving rank. tolerance: of the monolithic
    solver, the loosest of its list that was accurate enough. left_seconds: what looser ones took in vain.
    """

    hubs: int
    periods: int
    method: str
    seed: int
    seconds: float | None = None
    seconds_per_hub: float | None = None
    exchanges: int | None = None
    gap: float | None = None
    violation: float | None = None
    agents_seconds: float | None = None
    operators_seconds: float | None = None
    engine_seconds: float | None = None
    tolerance: float | None = None
    left_seconds: float = 0.0
    status: str = ""
    time_limit_seconds: float = TIME_LIMIT_SECONDS
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)

    def reached(self, seconds: float) -> None:
        self.seconds, self.seconds_per_hub = round(seconds, 3), round(seconds / self.hubs, 5)


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hubs", type=whole_number, nargs="+", default=list(HUBS))
    parser.add_argument("--periods", type=int, nargs="+", choices=PERIODS, default=list(PERIODS))
    parser.add_argument("--seed", type=natural_number, default=0)
    parser.add_argument("--time-limit", type=positive_number, default=TIME_LIMIT_SECONDS, help="seconds, for each run")
    parser.add_argument("--methods", nargs="+", help=f"only these of: {', '.join(methods())}")


def methods() -> list[str]:
    return [*SOLVERS, *IN_PROCESS, *OVER_MPI]


def run_scaling(options: Options) -> list[dict[str, Any]]:
    own, path = options.own, options.out / f"{FILE}.csv"
    found = {identity(row): row for row in options.former_rows(path)}
    unknown = set(own["methods"] or ()) - set(methods())
    if unknown:
        raise admm.InputError(f"--methods '{min(unknown)}': expected some of {', '.join(methods())}")
    wanted = own["methods"] or methods()
    for periods in own["periods"]:
        for hubs in own["hubs"]:
            left = [m for m in wanted if options.again or (periods, hubs, methods().index(m), own["seed"]) not in found]
            for row in measure_size(hubs, periods, own["seed"], own["time_limit"], left, options.cap or CAP):
                line = asdict(row)
                found[identity(line)] = line
                write_csv(path, [found[at] for at in sorted(found)])
                print({key: value for key, value in line.items() if key not in BELOW_THE_TABLE}, flush=True)
    rows = [found[at] for at in sorted(found)]
    note = f"Seconds to the same accuracy on {available_cores()} cores, one run after the other."
    (options.out / f"{FILE}.md").write_text(markdown_table(rows, note), encoding="utf-8")
    draw(rows, options.out)
    return rows


def identity(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """What tells rows apart, in the order of the table."""
    return row["periods"], row["hubs"], methods().index(row["method"]), row["seed"]


def measure_size(
    hubs: int, periods: int, seed: int, limit: float, wanted: Sequence[str], cap: int
) -> Iterator[ScalingRow]:
    """One row a method. The reference is PIQP at 1e-9; without one nothing is known to be accurate."""
    if not wanted:
        return
    programs, couplings = generate(hubs, periods, seed)
    whole = stack(programs, couplings)
    best = solve_whole(whole, *REFERENCE, limit)
    optimum, turnover = float("nan"), float("nan")
    if best.x is not None:
        optimum, turnover = whole.objective_eur(best.x), whole.turnover_eur(best.x, best.multiplier)
    problem = Problem(f"generated-{hubs}x{periods}", programs, couplings, optimum, turnover, seed)
    for method in wanted:
        row = ScalingRow(hubs, periods, method, seed, time_limit_seconds=limit)
        if method in SOLVERS:
            solve_alone(row, whole, optimum, turnover)
        elif method in IN_PROCESS:
            solve_in_process(row, problem, IN_PROCESS[method], cap)
        else:
            solve_over_mpi(row, problem, OVER_MPI[method], cap)
        yield row


def solve_alone(row: ScalingRow, whole: Stacked, optimum: float, turnover: float) -> None:
    """From the loosest tolerance to the tightest, until the answer is accurate; only that solve's time counts."""
    for tolerance in SOLVERS[row.method][1]:
        found = solve_whole(whole, row.method, tolerance, row.time_limit_seconds)
        row.tolerance, row.status = tolerance, found.status
        if found.x is not None:
            row.gap = (whole.objective_eur(found.x) - optimum) / turnover
            row.violation = whole.violation(found.x)
            if abs(row.gap) <= GAP_OF_TURNOVER and row.violation <= MISMATCH_OF_SCALE:
                row.reached(found.seconds)
                return
            row.status = "not accurate enough"
        row.left_seconds = round(row.left_seconds + found.seconds, 3)
        if found.status == "time limit":
            return


def solve_in_process(row: ScalingRow, problem: Problem, solver: str, cap: int) -> None:
    """PIQP holds the GIL, so it gets one thread; OSQP one a core."""
    threads = 1 if solver == "piqp" else available_cores()
    run_admm(row, problem, solver, cap, admm.InProcessTransport(threads=threads))


def run_admm(row: ScalingRow, problem: Problem, solver: str, cap: int, transport: admm.Transport) -> None:
    """Defaults from the cold start, to the yardstick."""
    name = problem.name
    run = Row(name, problem.family, row.method, "", "", "", "flat", solver, cap, problem.seed)
    settings = {"time_limit_seconds": row.time_limit_seconds, **cold_start(problem, "flat")}
    watch = measure(run, problem, settings, until="yardstick", transport=transport)
    row.exchanges, row.gap, row.status = run.yardstick_exchanges, run.end_gap, run.status
    if watch.result is None:
        return
    timing = watch.result.timing
    row.agents_seconds, row.operators_seconds = round(timing.agents, 3), round(timing.operators, 3)
    row.engine_seconds = round(timing.engine + timing.communication + timing.waiting, 3)
    row.violation = max(run.end_mismatch, *(agent.violation() for agent in watch.agents.values()))
    if run.seconds > row.time_limit_seconds:  # the engine ends the iteration that it is in
        row.status = "time limit"
    elif run.yardstick_exchanges is not None:
        row.reached(run.seconds)


def solve_over_mpi(row: ScalingRow, problem: Problem, solver: str, cap: int) -> None:
    """The same by mpirun; each rank reads its own agents from a file that only this program wrote."""
    beside = Path(sys.executable).parent / "mpirun"
    mpirun = str(beside) if beside.is_file() else shutil.which("mpirun")
    if mpirun is None:
        row.status = "there is no mpirun"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job"
        path.write_bytes(pickle.dumps((row, problem, solver, cap)))
        command = [mpirun, "-n", str(RANKS), sys.executable, "-m", "benchmarks.scaling_rank", str(path)]
        try:
            subprocess.run(command, check=True, timeout=2 * row.time_limit_seconds, stdout=subprocess.DEVNULL)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            row.status = type(error).__name__
            return
        vars(row).update(vars(pickle.loads(path.with_suffix(".done").read_bytes())))


def draw(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    words = "exchanges to the yardstick"
    draw_lines(_series(rows, "exchanges", "ADMM"), out / f"{FILE}_exchanges.png", "hubs", words, from_zero=True)
    draw_lines(_series(rows, "seconds_per_hub", "ADMM"), out / f"{FILE}_per_hub.png", "hubs", "seconds a hub")
    draw_lines(_series(rows, "seconds", ""), out / f"{FILE}_seconds.png", "hubs", "seconds to the same accuracy")


def _series(rows: Sequence[Mapping[str, Any]], column: str, begins: str) -> dict[str, list[tuple[float, float]]]:
    """{method and periods: [(hubs, value), ...]}; what was not reached is left out of the line."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["method"].startswith(begins) and row[column] is not None:
            found.setdefault(f"{row['method']}, T = {row['periods']}", []).append((row["hubs"], row[column]))
    return found
