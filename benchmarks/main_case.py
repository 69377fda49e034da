"""The main case in all variants against its centralised reference: `python -m benchmarks main_case`.

Policies `adaptive` and `classical` (penalty 1 per unit), from the same cold start, agents solved by OSQP in one
process. Writes results/main_case.csv and results/main_case.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

from admm.cli import main as tieline
from benchmarks.options import Options
from benchmarks.tables import markdown_table, write_csv

CASES = ("ieee33-10ec", "ieee33-10ec:summer", "ieee33-10ec:winter-15min", "ieee33-10ec:summer-15min")
PENALTIES = ("adaptive", "classical")
KEYS = (
    "case", "penalty", "status", "iterations", "objective_eur", "gap_to_reference", "largest_mismatch",
    "max_violation_pu", "ac_max_voltage_error_pu", "ac_max_loss_error", "bytes_exchanged", "wall_seconds", "versions",
)  # fmt: skip


def measure(case: str, penalty: str) -> dict[str, object]:
    """One run's summary, cut to what is compared."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        out = Path(folder) / "out"
        with contextlib.redirect_stdout(nowhere):
            tieline(["run", case, "--penalty", penalty, "--max-iterations", "2000", "--out", str(out)])
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return {key: summary[key] for key in KEYS}


def run_main_case(options: Options) -> list[dict[str, object]]:
    rows = []
    for case in CASES:
        for penalty in PENALTIES:
            rows.append(measure(case, penalty))
            print(rows[-1], flush=True)
    write_csv(options.out / "main_case.csv", rows)
    note = "Gap: (objective - reference) / boundary turnover of the reference; AC: against pandapower, worst period."
    (options.out / "main_case.md").write_text(markdown_table(rows, note), encoding="utf-8")
    return rows
