"""What it costs to start the penalty 100 times too small or too large: `python -m benchmarks wrong_start`.

Writes results/wrong_start.csv and .md: exchanges to the yardstick, and their ratio to those of the default, subject by
subject, then the median of the ratios. A run that fails has an infinite ratio.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.comparison import compare
from benchmarks.options import Options
from benchmarks.tables import made_with, markdown_table, reached
from benchmarks.variants import DEFAULT, WRONG_START

FILE = "wrong_start"


def run_wrong_start(options: Options) -> list[dict[str, Any]]:
    rows = compare(options, WRONG_START, f"{FILE}.csv")
    note = "Exchanges to the yardstick as a multiple of the default's; inf: not within the cap."
    (options.out / f"{FILE}.md").write_text(markdown_table(ratio_table(rows), note), encoding="utf-8")
    return rows


def ratio_table(rows: Sequence[Mapping[str, Any]], base: str = DEFAULT) -> list[dict[str, Any]]:
    """A line a subject and one for the median: exchanges of `base`, ratios of the others."""
    counts = {(row["subject"], row["variant"]): reached(row["yardstick_exchanges"]) for row in rows}
    others = [variant for variant in dict.fromkeys(row["variant"] for row in rows) if variant != base]
    table = []
    for subject in dict.fromkeys(row["subject"] for row in rows):
        of_base = counts[subject, base]
        line: dict[str, Any] = {"subject": subject, f"exchanges of {base}": of_base}
        line |= {variant: ratio(counts[subject, variant], of_base) for variant in others}
        table.append(line)
    middle = {key: median(line[key] for line in table) for key in table[0] if key != "subject"}
    return [{**line, **made_with(rows)} for line in [*table, {"subject": "median", **middle}]]


def ratio(count: float, of_base: float) -> float:
    """1 where both fail: neither is the better."""
    if math.isinf(of_base):
        return 1.0 if math.isinf(count) else 0.0
    return count / of_base
