"""What threads of the linear algebra library cost: `python -m benchmarks blas_threads`.

The generated problem of `scaling` with 200 communities, by agents with PIQP to the same yardstick, with one BLAS thread
a process, the default, and with one a core (TIELINE_BLAS_THREADS). The runs take turns; that of median time counts.
Writes results/blas_threads.csv and .md.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from admm.cli import natural_number, whole_number
from admm.output import versions
from admm.threads import VARIABLE
from admm.transport import available_cores
from benchmarks.generate import generate
from benchmarks.measure import machine
from benchmarks.monolithic_solvers import REFERENCE, TIME_LIMIT_SECONDS, solve_whole, stack
from benchmarks.options import Options
from benchmarks.scaling import CAP, RANKS, ScalingRow, solve_in_process, solve_over_mpi
from benchmarks.subjects import Problem
from benchmarks.tables import markdown_table, write_csv

SOLVER, PERIODS, FILE = "piqp", 24, "blas_threads"
WAYS: dict[str, Callable[..., None]] = {"one process": solve_in_process, f"{RANKS} ranks": solve_over_mpi}


@dataclass
class ThreadsRow:
    """The run of median time. engine_seconds: of the driving rank, with communication and waiting. cpu_seconds: of the
    processes of that run, their start included where they are ranks."""

    hubs: int
    where: str
    blas_threads: int
    seconds: float | None
    agents_seconds: float | None
    operators_seconds: float | None
    engine_seconds: float | None
    cpu_seconds: float
    exchanges: int | None
    gap: float | None
    runs: int
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hubs", type=whole_number, default=200)
    parser.add_argument("--repeats", type=whole_number, default=3, help="runs of each kind")
    parser.add_argument("--seed", type=natural_number, default=0)


def run_blas_threads(options: Options) -> list[dict[str, Any]]:
    own = options.own
    problem, rows = make_problem(own["hubs"], own["seed"]), []
    for where, solve in WAYS.items():
        runs = [(t, *timed(solve, problem, t)) for _ in range(own["repeats"]) for t in (1, available_cores())]
        rows += [vars(row_of(where, t, [run[1:] for run in runs if run[0] == t])) for t in (1, available_cores())]
        print(*rows[-2:], sep="\n", flush=True)
    write_csv(options.out / f"{FILE}.csv", rows)
    note = f"Median of {own['repeats']} runs on {available_cores()} cores, to the yardstick of `scaling`."
    (options.out / f"{FILE}.md").write_text(markdown_table(rows, note), encoding="utf-8")
    return rows


def make_problem(hubs: int, seed: int) -> Problem:
    programs, couplings = generate(hubs, PERIODS, seed)
    whole = stack(programs, couplings)
    best = solve_whole(whole, *REFERENCE, TIME_LIMIT_SECONDS)
    optimum, turnover = whole.objective_eur(best.x), whole.turnover_eur(best.x, best.multiplier)
    return Problem(f"generated-{hubs}x{PERIODS}", programs, couplings, optimum, turnover, seed)


def timed(solve: Callable[..., None], problem: Problem, threads: int) -> tuple[ScalingRow, float]:
    """One run, and the processor's seconds that it took here and in children."""
    row, began = ScalingRow(len(problem.programs) - 2, PERIODS, f"ADMM, {SOLVER}", problem.seed or 0), cpu_seconds()
    with in_environment(str(threads)):
        solve(row, problem, SOLVER, CAP)
    return row, cpu_seconds() - began


def cpu_seconds() -> float:
    seen = os.times()
    return time.process_time() + seen.children_user + seen.children_system


@contextmanager
def in_environment(threads: str) -> Iterator[None]:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = threads
    yield
    del os.environ[VARIABLE]
    if before is not None:
        os.environ[VARIABLE] = before


def row_of(where: str, threads: int, runs: list[tuple[ScalingRow, float]]) -> ThreadsRow:
    """A run that did not reach the yardstick counts as the longest."""
    row, cpu = sorted(runs, key=lambda run: run[0].seconds or float("inf"))[len(runs) // 2]
    parts = row.seconds, row.agents_seconds, row.operators_seconds, row.engine_seconds
    return ThreadsRow(row.hubs, where, threads, *parts, round(cpu, 2), row.exchanges, row.gap, len(runs))
