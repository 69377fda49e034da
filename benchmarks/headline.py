"""Adaptive against classical on the case with hubs, in exchanges, bytes and time: `python -m benchmarks headline`.

The comparison behind "N % faster than classical": every baseline and every scheme from one cold start, one run at a
time, until the yardstick. Best values of the penalty come from the grid, whose missing rows are run first. Writes
results/headline.csv (a row a run), .md (medians over the days, and by how much the default is lower) and .png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.comparison import compare
from benchmarks.figures import draw_headline
from benchmarks.grid import run_grid
from benchmarks.options import Options
from benchmarks.registry import CASES
from benchmarks.tables import lower_by, made_with, markdown_table, reached
from benchmarks.variants import BASELINES, CONVERGENCE, DEFAULT

FILE = "headline"
FAMILY = "16 hubs"
VARIANTS = (*BASELINES, DEFAULT, "certified", "memory")
MEASURES = {"exchanges": "yardstick_exchanges", "MB": "bytes", "seconds": "seconds"}
NOTE = (
    "To the yardstick (objective within 1e-4 of the turnover, mismatch at most 1e-3 of scale), {days}; inf: not within "
    "the cap. In brackets: by how much the default is lower (negative: higher). All from the same cold start (values "
    "0, first price {start}), agents solved by {solver}, one process, one run at a time."
)


def run_headline(options: Options) -> list[dict[str, Any]]:
    days = tuple(name for name, family in CASES.items() if family == FAMILY)
    chosen = replace(options, subjects=options.subjects or days, variants=options.variants or VARIANTS)
    run_grid(replace(chosen, resume=True))
    rows = compare(chosen, {name: CONVERGENCE[name] for name in VARIANTS}, f"{FILE}.csv")
    note = NOTE.format(days=", ".join(chosen.subjects), start=options.start, solver=options.solver)
    (options.out / f"{FILE}.md").write_text(markdown_table(medians(rows), note), encoding="utf-8")
    draw_headline(rows, MEASURES, options.out / f"{FILE}.png")
    return rows


def medians(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A line a variant: the count of exchanges on every day, and the median of each measure."""
    middle = {name: {m: median(_values(rows, name, m)) for m in MEASURES} for name in _names(rows)}
    table = []
    for name in _names(rows):
        line: dict[str, Any] = {"variant": name}
        line |= {row["subject"]: _count(row) for row in rows if row["variant"] == name}
        for measure, value in middle[name].items():
            lower = lower_by(middle[DEFAULT][measure], value) if name != DEFAULT and DEFAULT in middle else ""
            line[f"median {measure}"] = f"{value:.3g} ({lower})" if lower else f"{value:.3g}"
        table.append(line | made_with(rows))
    return table


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["variant"] for row in rows))


def _count(row: Mapping[str, Any]) -> str:
    return f"{reached(row['yardstick_exchanges']):g}"


def _values(rows: Sequence[Mapping[str, Any]], variant: str, measure: str) -> list[float]:
    """Of each run; infinite where the yardstick was not reached."""
    return [
        reached(row[MEASURES[measure]] if row["yardstick_exchanges"] is not None else None)
        / (1e6 if measure == "MB" else 1)
        for row in rows
        if row["variant"] == variant
    ]
