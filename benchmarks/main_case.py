"""The bundled cases in all variants against their centralised references: `python -m benchmarks main_case`.

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
from benchmarks.registry import chosen
from benchmarks.tables import markdown_table, write_csv

CASES = (
    "ieee33-10ec", "ieee33-10ec:summer", "ieee33-10ec:winter-15min", "ieee33-10ec:summer-15min",
    "feeder118-gas65", "feeder118-gas65:summer", "feeder118-gas65:pv-150", "feeder118-gas65:gate-lost",
    "feeder118-gas65:one-operator",
)  # fmt: skip
NOTE = (
    "Gap: (objective - reference) / boundary turnover of the reference; AC: against pandapower, gas: against the exact "
    "flow, worst period."
)
PENALTIES = ("adaptive", "classical")
KEYS = (
    "case", "penalty", "status", "iterations", "objective_eur", "gap_to_reference", "largest_mismatch",
    "max_violation_pu", "ac_max_voltage_error_pu", "ac_max_loss_error", "gas_max_pressure_error_bar",
    "bytes_exchanged", "wall_seconds", "versions",
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
    for case in chosen(CASES, options.subjects, "case"):
        for penalty in PENALTIES:
            rows.append(measure(case, penalty))
            print(rows[-1], flush=True)
    write_csv(options.out / "main_case.csv", rows)
    (options.out / "main_case.md").write_text(markdown_table(rows, NOTE, nothing="-"), encoding="utf-8")
    return rows
