"""Exchanges of every variant on every subject, from one cold start: `python -m benchmarks convergence`.

Writes results/convergence.csv (a row a run), .md (medians and worst cases) and two figures: a performance profile,
and how residual and gap fall on HISTORY_SUBJECTS, with the numbers behind it in convergence_history.csv.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

from benchmarks.comparison import by_family, compare, known, tasks_for, watched
from benchmarks.figures import draw_histories, draw_profile
from benchmarks.options import Options
from benchmarks.registry import registry
from benchmarks.tables import lower_by, made_with, markdown_table, reached, write_csv
from benchmarks.variants import BASELINES, CONVERGENCE, DEFAULT, ONE_PRICE

FILE = "convergence"
HISTORY_SUBJECTS = ("feeder33-tso57-00", "feeder118-gas65-00")
HISTORY_VARIANTS = (*BASELINES, DEFAULT, "memory")
COMPARED = (DEFAULT, "certified", "memory")
REDUCTION_NOTE = (
    "By how much the median of exchanges to the yardstick is lower than the baseline's; negative: higher; "
    "-: no number, as at least half of the instances are not solved within the cap."
)
NOTE = (
    "Exchanges until each test was met first, median/worst over the family's instances; inf: not within the cap of the "
    "row in the CSV, or not before the run ended on a proof. "
    "All from the same cold start (values 0, first price {start}), agents solved by {solver}."
)


def run_convergence(options: Options) -> list[dict[str, Any]]:
    rows = compare(options, CONVERGENCE, f"{FILE}.csv")
    note = NOTE.format(start=options.start, solver=options.solver)
    tables, lower = [markdown_table(by_family(rows), note)], reductions(rows)
    if lower:  # against baselines, where there are any
        tables.append(markdown_table(lower, REDUCTION_NOTE))
    (options.out / f"{FILE}.md").write_text("\n".join(tables), encoding="utf-8")
    draw_profile(rows, options.out / "performance_profile.png")
    histories = run_histories(options)
    if histories:
        write_csv(options.out / f"{FILE}_history.csv", histories)
        draw_histories(histories, options.out / f"{FILE}_history.png")
    return rows


def reductions(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line a family and baseline: its median of exchanges, and by how much the others' medians are lower, in %."""
    table = []
    for family in dict.fromkeys(row["family"] for row in rows):
        middle = {variant: median(counts) for variant, counts in _counts(rows, family).items()}
        for baseline in (*BASELINES, *ONE_PRICE):
            if baseline in middle:
                line: dict[str, Any] = {"family": family, "baseline": baseline, "median": middle[baseline]}
                line |= {v: lower_by(middle[v], middle[baseline]) for v in COMPARED if v in middle}
                table.append(line | made_with(rows))
    return table


def _counts(rows: Sequence[Mapping[str, Any]], family: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["family"] == family:
            found.setdefault(row["variant"], []).append(reached(row["yardstick_exchanges"]))
    return found


def run_histories(options: Options) -> list[dict[str, Any]]:
    """Exchange by exchange, of those subjects and variants that are both chosen and in the figure."""
    shown = {*HISTORY_VARIANTS, *registry(options.files).own_variants}
    tasks = [
        task
        for (subject, variant), task in tasks_for(options, known(CONVERGENCE, options.skip_unknown)).items()
        if subject in HISTORY_SUBJECTS and variant in shown
    ]
    rows: list[dict[str, Any]] = []
    for task in tasks:
        _, watch = watched(replace(task, cap=min(task.cap, 300)))
        rows += [{"subject": task.subject, "variant": task.variant, **asdict(moment)} for moment in watch.moments]
    return rows
