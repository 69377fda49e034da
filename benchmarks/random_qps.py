"""Random coupled QPs: does "converged" come with the optimum, and does it come? `python -m benchmarks random_qps`.

Problems of all kinds of `random_problems`, the same number of each. Each is solved by the default scheme, and as one
stacked QP by two solvers that know no agents (Clarabel, PIQP); a row counts as wrong where the run says converged and
its objective is off by more than the tolerance from both, or where the two differ from each other by more. Writes
results/random_qps.csv (a row a problem) and .md (a row a kind).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

import admm
from admm.cli import natural_number, whole_number
from admm.couplings import Layout
from admm.graph import split
from admm.output import versions
from admm.updates import turnover_floor
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.random_problems import KINDS, RandomProblem, random_problem, stacked
from benchmarks.tables import made_with, markdown_table, read_csv, write_csv

FILE = "random_qps"
COUNT, TOLERANCE = 5000, 1e-4
TOGETHER = 20
"""Problems of one task."""
NOTE = (
    "Problems by kind, see random_problems.py, each run with default settings. converged: with a proof, of those "
    "that the rounds found; `agreed`: tests passed without a proof; `not`: at the iteration limit, or stopped for "
    f"scales. wrong: converged, and more than {TOLERANCE:g} of the turnover (with its floor) from the optimum of the "
    "stacked QP. gap: the largest distance of a converged run's objective from that optimum, as a share of the "
    "turnover. iterations: median, 90th percentile and largest; more: exchanges of proofs beside them, mean. apart: "
    "problems of which the two stacked solvers (Clarabel, PIQP) differ by more than the tolerance."
)


@dataclass(frozen=True)
class Row:
    """One problem. gap: of the run's objective from the nearer of the stacked optima, a share of the turnover; apart:
    of these two from each other. None where no stacked solver has an optimum."""

    kind: str
    seed: int
    agents: int
    entries: int
    relays: bool
    status: str
    iterations: int
    exchanges: int
    certified_gap: float | None
    gap: float | None
    apart: float | None
    seconds: float
    solver: str
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=whole_number, default=COUNT, metavar="N", help="problems, all kinds together")
    parser.add_argument("--first", type=natural_number, default=0, metavar="SEED", help="the first seed of each kind")


def run_random_qps(options: Options) -> None:
    path = options.out / f"{FILE}.csv"
    rows = {(row["kind"], row["seed"]): row for row in options.former_rows(path)}
    each, first = -(-options.own["count"] // len(KINDS)), options.own["first"]
    chosen = [(kind, seed) for seed in range(first, first + each) for kind in KINDS][: options.own["count"]]
    todo = [one for one in chosen if options.again or one not in rows]
    for found in _measured(todo, options):
        rows |= {(row.kind, row.seed): asdict(row) for row in found}
        write_csv(path, [rows[one] for one in sorted(rows, key=lambda one: (KINDS.index(one[0]), one[1]))])
        bad = [row for row in found if row.status not in ("CONVERGED", "CERTIFIED") or (row.gap or 0.0) > TOLERANCE]
        print(f"{len(rows)} problems", *(f"{row.kind} {row.seed}: {row.status} {row.gap}" for row in bad), flush=True)
    (options.out / f"{FILE}.md").write_text(table(read_csv(path)))


def _measured(todo: Sequence[tuple[str, int]], options: Options) -> Iterator[list[Row]]:
    tasks = [todo[i : i + TOGETHER] for i in range(0, len(todo), TOGETHER)]
    with ProcessPoolExecutor(options.processes or 1) as pool:
        yield from pool.map(partial(_rows, solver=options.solver), tasks)


def _rows(which: Sequence[tuple[str, int]], solver: str) -> list[Row]:
    return [row(kind, seed, solver) for kind, seed in which]


def row(kind: str, seed: int, solver: str) -> Row:
    """Run one problem and hold it against both stacked optima."""
    problem, began = random_problem(kind, seed), time.perf_counter()
    result = admm.solve(problem.agents(solver), problem.couplings)
    seconds = time.perf_counter() - began
    layout = Layout(problem.couplings)
    turnover = max(result.turnover, turnover_floor(layout))
    optima = [one for one in (by_clarabel(problem), by_piqp(problem)) if one is not None]
    return Row(
        kind=kind,
        seed=seed,
        agents=len(problem.programs),
        entries=layout.size,
        relays=bool(split(problem.couplings).relays),
        status=result.status.name,
        iterations=result.iterations,
        exchanges=result.iterations + result.proof_exchanges,
        certified_gap=result.certified_gap,
        gap=min((abs(result.objective - one) / turnover for one in optima), default=None),
        apart=abs(optima[0] - optima[1]) / turnover if len(optima) == 2 else None,
        seconds=round(seconds, 3),
        solver=solver,
    )


def by_clarabel(problem: RandomProblem) -> float | None:
    """Optimum of the stacked QP, EUR."""
    import clarabel

    P, q, A, low, up = stacked(problem)
    equal = low == up
    rows = sp.vstack([A[equal], A[~equal], -A[~equal]], format="csc")
    right = np.concatenate([up[equal], up[~equal], -low[~equal]])
    cones = [clarabel.ZeroConeT(int(equal.sum())), clarabel.NonnegativeConeT(2 * int((~equal).sum()))]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
    found = clarabel.DefaultSolver(sp.triu(P, format="csc"), q, rows, right, cones, settings).solve()
    return found.obj_val if str(found.status) in ("Solved", "AlmostSolved") else None


def by_piqp(problem: RandomProblem) -> float | None:
    """Optimum of the stacked QP, EUR."""
    import piqp

    P, q, A, low, up = stacked(problem)
    equal = low == up
    solver = piqp.SparseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = 1e-9
    solver.settings.eps_duality_gap_abs = solver.settings.eps_duality_gap_rel = 1e-9
    solver.settings.check_duality_gap = True
    inner = sp.csc_matrix(A[~equal])
    solver.setup(sp.csc_matrix(P), q, sp.csc_matrix(A[equal]), up[equal], inner, low[~equal], up[~equal])
    if solver.solve() != piqp.PIQP_SOLVED:
        return None
    x = solver.result.x
    return float(0.5 * x @ (P @ x) + q @ x)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line a kind, and one of all."""
    kinds = [kind for kind in KINDS if any(row["kind"] == kind for row in rows)]
    lines = [_line(kind, [row for row in rows if row["kind"] == kind]) for kind in kinds]
    return markdown_table([{**line, **made_with(rows)} for line in [*lines, _line("all", rows)]], NOTE, nothing="-")


def _line(kind: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    converged = [row for row in rows if row["status"] in ("CONVERGED", "CERTIFIED")]
    gaps = [row["gap"] for row in converged if row["gap"] is not None]
    counts = [row["iterations"] for row in rows]
    return {
        "kind": kind,
        "problems": len(rows),
        "converged": len(converged),
        "by rounds": sum(row["status"] == "CERTIFIED" for row in rows),
        "agreed": sum(row["status"] == "AGREED" for row in rows),
        "not": sum(row["status"] not in ("CONVERGED", "CERTIFIED", "AGREED") for row in rows),
        "wrong": sum(gap > TOLERANCE for gap in gaps),
        "gap": max(gaps, default=None),
        "iterations": f"{np.median(counts):.0f} / {np.percentile(counts, 90):.0f} / {max(counts)}",
        "more": float(np.mean([row["exchanges"] - row["iterations"] for row in rows])),
        "apart": sum((row["apart"] or 0.0) > TOLERANCE for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows)),
    }
