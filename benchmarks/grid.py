"""What a fixed penalty could do at its best: every value of a grid on every subject, `python -m benchmarks grid`.

21 values from 1e-3 to 1e3 per unit (price scale / scale of each quantity), none left out, each from the same cold
start until the yardstick is met, at most CAP exchanges. Writes results/grid.csv, which the baselines read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measure import Row, cold_start, measure
from benchmarks.options import Options
from benchmarks.registry import chosen, registry
from benchmarks.runner import run_all
from benchmarks.tables import median_and_worst, reached, read_csv

CAP = 300
"""It only chooses the values: `convergence` gives each chosen value its own, larger cap, failed here or not."""
VALUES = tuple(float(f"{value:.6g}") for value in np.logspace(-3, 3, 21))
FILE = "grid.csv"


@dataclass(frozen=True)
class GridTask:
    """One value on one subject. files: users' own, in which subjects are looked up."""

    subject: str
    value: float
    solver: str
    start: str
    cap: int
    files: tuple[str, ...]


def variant_name(value: float) -> str:
    return f"classical:{value:g}"


def run_one(task: GridTask) -> Row:
    subject = registry(task.files).subjects[task.subject]()
    name = variant_name(task.value)
    row = Row(
        subject.name, subject.family, name, "two-block", name, "none", task.start, task.solver, task.cap, subject.seed
    )
    settings = {"penalty": name, "acceleration": "none", **cold_start(subject, task.start)}
    measure(row, subject, settings, until="yardstick")
    return row


def run_grid(options: Options) -> list[dict[str, Any]]:
    names = chosen(list(registry(options.files).subjects), options.subjects, "subject")
    cap = options.cap or CAP
    tasks = {
        (name, variant_name(value)): GridTask(name, value, options.solver, options.start, cap, options.files)
        for name in names
        for value in VALUES
    }
    rows = run_all(tasks, run_one, options.out / FILE, ("subject", "variant"), options, processes=2)
    best = best_values(rows)
    for family in dict.fromkeys(row["family"] for row in rows):
        at = best.of_family[family]
        counts = [row["yardstick_exchanges"] for row in rows if row["family"] == family and row["variant"] == at]
        print(f"{family}: best single value {at}, median/worst {median_and_worst(counts)}")
    return rows


@dataclass(frozen=True)
class BestValues:
    """The penalty policy (as a name with its value) that is best of the grid, by family and by subject."""

    of_family: Mapping[str, str]
    of_instance: Mapping[str, str]


def best_values(rows: Sequence[Mapping[str, Any]]) -> BestValues:
    """Fewest exchanges to the yardstick, failures infinite.

    Per family by the median over its instances, then the worst, then the sum: what tables report is what is
    tuned. Where no value succeeds at all: fewest exchanges to Boyd's test. Of equals the value nearest to 1.
    """
    families = dict.fromkeys(row["family"] for row in rows)
    subjects = dict.fromkeys(row["subject"] for row in rows)
    return BestValues(
        {family: _best([row for row in rows if row["family"] == family]) for family in families},
        {subject: _best([row for row in rows if row["subject"] == subject]) for subject in subjects},
    )


def _best(rows: Sequence[Mapping[str, Any]]) -> str:
    def rank(variant: str) -> tuple[float, ...]:
        mine = [row for row in rows if row["variant"] == variant]
        honest = [reached(row["yardstick_exchanges"]) for row in mine]
        boyd = [reached(row["boyd_exchanges"]) for row in mine] if math.isinf(min(honest)) else [0.0]
        far = abs(math.log(float(variant.partition(":")[2])))
        return (median(honest), max(honest), sum(honest), median(boyd), far)

    return min(dict.fromkeys(row["variant"] for row in rows), key=rank)


def read_best(out: Path) -> BestValues:
    """From the grid's results; empty where there are none yet."""
    path = out / FILE
    return best_values(read_csv(path)) if path.is_file() else BestValues({}, {})
