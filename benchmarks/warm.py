"""A day later: warm start after errors of load (3 %) and PV (6 %), `python -m benchmarks warm`.

The former run is the default on the problem as it is, to the engine's own stop. Every variant then starts on the
perturbed problem from that run's prices and values, classical ADMM too: warm is compared with warm only. The former
penalty is taken over by variants that leave policy and scheme to the default. The cold default stands beside them.
Errors that leave no feasible schedule are replaced by the next draw, and that is printed.
Writes results/warm.csv and .md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import admm
from admm.cli import whole_number
from admm.initial import warm_start
from benchmarks.comparison import by_family, known, new_row, resolved
from benchmarks.grid import read_best
from benchmarks.measure import Row, cold_start, measure
from benchmarks.options import Options
from benchmarks.perturb import with_errors
from benchmarks.registry import chosen, registry
from benchmarks.runner import run_all
from benchmarks.subjects import Problem
from benchmarks.tables import markdown_table
from benchmarks.variants import WARM, Variant

DRAWS, CAP, FILE = 3, 500, "warm"
COLD = "cold"
"""Variants whose name starts with this word start cold."""
NOTE = (
    "Exchanges until each test was met first, median/worst over the instances and draws of errors (load 3 %, PV 6 %), "
    "started from the former run's prices and values (the default: and penalty); inf: not within the cap."
)


@dataclass(frozen=True)
class WarmTask:
    """One variant after one draw of errors."""

    subject: str
    draw: int
    variant: str
    options: Options


def run_warm(options: Options) -> list[dict[str, Any]]:
    found = registry(options.files)
    variants = known({**WARM, **found.own_variants}, options.skip_unknown)
    names = [name for name in chosen(list(found.subjects), options.subjects, "subject") if _has_programs(name, options)]
    tasks = {
        (f"{name}-errors{draw}", variant): WarmTask(name, draw, variant, options)
        for name in names
        for draw in range(options.own.get("draws", DRAWS))
        for variant in chosen(list(variants), options.variants, "variant")
    }
    rows = run_all(tasks, run_one, options.out / f"{FILE}.csv", ("subject", "variant"), options)
    (options.out / f"{FILE}.md").write_text(markdown_table(by_family(rows), NOTE), encoding="utf-8")
    return rows


def add_own_options(parser) -> None:
    parser.add_argument("--draws", type=whole_number, default=DRAWS, help="draws of errors for each subject")


def _has_programs(name: str, options: Options) -> bool:
    """Errors are put into programs; a case's are private to its agents."""
    return isinstance(registry(options.files).subjects[name](), Problem)


def run_one(task: WarmTask) -> Row:
    options, found = task.options, registry(task.options.files)
    former, subject = _prepared(task.subject, task.draw, options.solver, options.files)
    settings = {**WARM, **found.own_variants}[task.variant]
    original = found.subjects[task.subject]()
    settings = resolved(settings, original, read_best(options.out))
    start = COLD if task.variant.startswith(COLD) else "warm"
    row = new_row(subject, task.variant, settings, start, options.solver, options.cap or CAP)
    row.subject, row.family = f"{task.subject}-errors{task.draw}", original.family
    begin = cold_start(subject, "flat") if start == COLD else warm_settings(former, subject, settings)
    measure(row, subject, {**settings, **begin})
    return row


@lru_cache(maxsize=4)
def _prepared(name: str, draw: int, solver: str, files: tuple[str, ...]) -> tuple[admm.Result, Problem]:
    """The former run's result, and the problem with errors."""
    original = registry(files).subjects[name]()
    settings = admm.Settings(max_iterations=2000, **cold_start(original, "flat"))
    former = admm.solve(original.agents(solver), original.couplings, settings, admm.InProcessTransport(threads=1))
    return former, _feasible(original, draw)


def _feasible(original: Problem, draw: int) -> Problem:
    """With the draw's errors, or those of the next of its seeds: draw, draw + 1000, draw + 2000, ..."""
    for seed in range(draw, draw + 10_000, 1000):
        try:
            return with_errors(original, seed)
        except admm.InfeasibleError:
            print(f"{original.name}: no feasible schedule with errors of seed {seed}, next one", flush=True)
    raise admm.InputError(f"{original.name}: none of ten draws of errors leaves a feasible schedule")


def warm_settings(former: admm.Result, subject: Problem, settings: Variant) -> dict[str, Any]:
    """Start at a former result's prices and values, and at its penalty where the policy is the former run's own."""
    start = warm_start(former.boundary, subject.couplings)
    found = {"initial_price": start.price, "initial_values": start.values}
    own = "penalty" not in settings and "scheme" not in settings
    return found | {"initial_penalty": start.penalty} if own else found
