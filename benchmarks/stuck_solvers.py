"""How long agents' solvers are stuck, and what it brings to replace them: `python -m benchmarks stuck_solvers`.

Bundled cases and random problems (random_problems.py) run with the default settings, and no solver is replaced but
where only the other one has an answer. Counted are the answers in a row that an agent's solver left inaccurate, found
at its limit of iterations, or not at all. Runs with as many in a row as a replacement takes run again, with it. Writes
results/stuck_solvers.csv and .md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import admm
from admm.cli import whole_number
from admm.output import versions
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.random_problems import KINDS, random_problem
from benchmarks.tables import markdown_table, write_csv
from networks.case import load_case
from subproblems import qp_agent
from subproblems.qp_agent import STUCK_AFTER, QPAgent

FILE, NEVER = "stuck_solvers", 10**9
VARIANTS = {
    "ieee33-10ec": ("", ":summer", ":winter-15min", ":summer-15min"),
    "feeder118-gas65": ("", ":summer", ":pv-150", ":gate-lost", ":one-operator"),
}
CASES = [f"{case}{variant}" for case, variants in VARIANTS.items() for variant in variants]
Make = Callable[[], tuple[Mapping[str, admm.Agent], tuple[admm.Coupling, ...]]]


@dataclass
class Run:
    """One run. row: most answers in a row that were not good."""

    exchanges: int
    inner_iterations: int
    converged: bool
    row: int
    cpu_seconds: float


@dataclass
class StuckRow:
    """Runs of one kind. longest_of_others: of answers in a row that were not good, in runs with fewer than a
    replacement takes. Then the other runs: how many converged, and exchanges, iterations of the solvers whose answers
    counted, and the processor's seconds of all, without and with replacements."""

    subject: str
    solver: str
    runs: int
    not_all_good: int
    longest_of_others: int
    stuck: int
    converged_without: int
    converged_with: int
    exchanges_without: int
    exchanges_with: int
    inner_iterations_without: int
    inner_iterations_with: int
    cpu_seconds_without: float
    cpu_seconds_with: float
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=whole_number, default=100, help="random problems of each kind")
    parser.add_argument("--cases", nargs="*", default=CASES)


def run_stuck_solvers(options: Options) -> list[dict[str, Any]]:
    rows = []
    for subject, solver, makes in subjects(options.own["cases"], options.own["seeds"]):
        rows.append(vars(row_of(subject, solver, list(makes))))
        print({key: value for key, value in rows[-1].items() if key not in ("versions", "machine")}, flush=True)
        write_csv(options.out / f"{FILE}.csv", rows)
    note = f"A solver is replaced after {STUCK_AFTER} answers in a row that are not good."
    (options.out / f"{FILE}.md").write_text(markdown_table(rows, note), encoding="utf-8")
    return rows


def subjects(cases: list[str], seeds: int) -> Iterator[tuple[str, str, Iterator[Make]]]:
    for solver in ("osqp", "piqp"):
        for kind in KINDS:
            yield f"random, {kind}", solver, (random_maker(kind, seed, solver) for seed in range(seeds))
        for case in cases:
            yield case, solver, iter([case_maker(case, solver)])


def random_maker(kind: str, seed: int, solver: str) -> Make:
    problem = random_problem(kind, seed)
    return lambda: (problem.agents(solver), problem.couplings)


def case_maker(name: str, solver: str) -> Make:
    case = load_case(name)
    return lambda: ({agent: case.build_agent(agent, solver) for agent in case.agents}, case.couplings)


def row_of(subject: str, solver: str, makes: list[Make]) -> StuckRow:
    """Of runs that end with an error nothing is counted: none did."""
    without = [run_once(make, NEVER) for make in makes]
    stuck = [i for i, run in enumerate(without) if run.row >= STUCK_AFTER]
    pairs = [[without[i] for i in stuck], [run_once(makes[i], STUCK_AFTER) for i in stuck]]
    longest = max((run.row for run in without if run.row < STUCK_AFTER), default=0)
    keys = ("converged", "exchanges", "inner_iterations", "cpu_seconds")
    counts = [round(sum(getattr(run, key) for run in of), 2) for key in keys for of in pairs]
    return StuckRow(subject, solver, len(makes), sum(run.row > 0 for run in without), longest, len(stuck), *counts)


def run_once(make: Make, stuck_after: int) -> Run:
    (agents, couplings), began = make(), time.process_time()
    with watched(stuck_after) as seen:
        result = admm.solve(agents, couplings)
    inner = sum(progress.inner_iterations for progress in result.history)
    return Run(result.iterations, inner, result.converged, seen["row"], time.process_time() - began)


@contextmanager
def watched(stuck_after: int) -> Iterator[dict[str, int]]:
    """Solvers are replaced after so many answers. row: most in a row that were not good, of any agent's schedule."""
    seen, better, usual = {"row": 0}, QPAgent._better, qp_agent.STUCK_AFTER

    def watching(self: QPAgent, *given: Any) -> Any:
        answer = better(self, *given)
        if self._solver is not self._flat_solver:
            seen["row"] = max(seen["row"], self._stuck)
        return answer

    QPAgent._better, qp_agent.STUCK_AFTER = watching, stuck_after
    try:
        yield seen
    finally:
        QPAgent._better, qp_agent.STUCK_AFTER = better, usual
