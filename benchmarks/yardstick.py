"""How many exchanges until the honest yardstick: `python -m benchmarks.yardstick`.

Both families of problems with known optima, policies `adaptive` and `classical` (penalty 1 per unit),
from the same cold start (values and prices 0). The yardstick of benchmarks/problems/README.md:
|objective - optimum| <= 1e-4 of the boundary turnover and largest mismatch <= 1e-3 of scale.
Writes results/yardstick.csv and results/yardstick.md.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import admm
from admm.output import versions
from benchmarks.problem_files import Problem, problem_names, read_problem
from benchmarks.tables import markdown_table, write_csv

RESULTS = Path(__file__).parent / "results"
GAP_OF_TURNOVER, MISMATCH_OF_SCALE = 1e-4, 1e-3
CAPS = {"adaptive": 500, "classical": 2000}


@dataclass
class Row:
    """One run. Iterations are None where a test was not met within the cap."""

    problem: str
    penalty: str
    solver: str
    cap: int
    boyd_iterations: int | None = None
    yardstick_iterations: int | None = None
    stop_iterations: int | None = None
    gap_at_end: float = float("nan")
    mismatch_at_end: float = float("nan")
    inner_iterations: int = 0
    bytes_exchanged: int = 0
    wall_seconds: float = float("nan")


def measure(problem: Problem, penalty: str, solver: str, cap: int) -> Row:
    """Run to the cap, or until the yardstick is met and the engine stops by itself."""
    row = Row(problem.name, penalty, solver, cap)

    def watch(progress: admm.Progress) -> None:
        gap = abs(progress.objective_eur - problem.optimum_eur) / problem.turnover_eur
        row.gap_at_end, row.mismatch_at_end = gap, progress.residuals.mismatch
        row.inner_iterations += progress.inner_iterations
        if row.boyd_iterations is None and progress.residuals.boyd_passed():
            row.boyd_iterations = progress.iteration
        if row.yardstick_iterations is None and gap <= GAP_OF_TURNOVER and row.mismatch_at_end <= MISMATCH_OF_SCALE:
            row.yardstick_iterations = progress.iteration

    began = time.perf_counter()
    settings = admm.Settings(penalty=penalty, max_iterations=cap, callback=watch)
    result = admm.solve(problem.agents(solver), problem.couplings, settings)
    row.stop_iterations = result.iterations if result.converged else None
    row.bytes_exchanged, row.wall_seconds = result.bytes_exchanged, round(time.perf_counter() - began, 2)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--solver", default="piqp", choices=("osqp", "piqp"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    rows = []
    for name in problem_names():
        problem = read_problem(name)
        for penalty, cap in CAPS.items():
            rows.append(measure(problem, penalty, given.solver, cap))
            print(rows[-1], flush=True)
    table = [asdict(row) | {"versions": versions()} for row in rows]
    write_csv(given.out / "yardstick.csv", table)
    note = f"Iterations until each test was met first; gap as a share of turnover; agents solved by {given.solver}."
    (given.out / "yardstick.md").write_text(markdown_table(table, note), encoding="utf-8")


if __name__ == "__main__":
    main()
