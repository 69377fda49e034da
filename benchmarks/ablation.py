"""Each ingredient of the default left out once: `python -m benchmarks ablation`.

Writes results/ablation.csv and .md: medians and worst cases, and ratios to the default, subject by subject.
"""

from __future__ import annotations

from typing import Any

from benchmarks.comparison import by_family, compare
from benchmarks.options import Options
from benchmarks.tables import markdown_table
from benchmarks.variants import ABLATION
from benchmarks.wrong_start import ratio_table

FILE = "ablation"


def run_ablation(options: Options) -> list[dict[str, Any]]:
    rows = compare(options, ABLATION, f"{FILE}.csv")
    families = markdown_table(by_family(rows), "Exchanges, median/worst of each family; inf: not within the cap.")
    ratios = markdown_table(ratio_table(rows), "Exchanges to the yardstick as a multiple of the default's.")
    (options.out / f"{FILE}.md").write_text(f"{families}\n{ratios}", encoding="utf-8")
    return rows
