"""Exchanges of every variant on every subject, from one cold start: `python -m benchmarks convergence`.

Writes results/convergence.csv (a row a run), .md (medians and worst cases) and two figures: a performance profile,
and how residual and gap fall on HISTORY_SUBJECTS, with the numbers behind it in convergence_history.csv.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from benchmarks.comparison import by_family, compare, known, tasks_for, watched
from benchmarks.figures import draw_histories, draw_profile
from benchmarks.options import Options
from benchmarks.registry import registry
from benchmarks.tables import markdown_table, write_csv
from benchmarks.variants import BASELINES, CONVERGENCE, DEFAULT

FILE = "convergence"
HISTORY_SUBJECTS = ("feeder33-tso57-00", "feeder118-gas65-00")
HISTORY_VARIANTS = (*BASELINES, DEFAULT, "memory")
NOTE = (
    "Exchanges until each test was met first, median/worst over the family's instances; inf: not within the cap of the "
    "row in the CSV. All from the same cold start (values 0, first price {start}), agents solved by {solver}."
)


def run_convergence(options: Options) -> list[dict[str, Any]]:
    rows = compare(options, CONVERGENCE, f"{FILE}.csv")
    note = NOTE.format(start=options.start, solver=options.solver)
    (options.out / f"{FILE}.md").write_text(markdown_table(by_family(rows), note), encoding="utf-8")
    draw_profile(rows, options.out / "performance_profile.png")
    histories = run_histories(options)
    if histories:
        write_csv(options.out / f"{FILE}_history.csv", histories)
        draw_histories(histories, options.out / f"{FILE}_history.png")
    return rows


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
