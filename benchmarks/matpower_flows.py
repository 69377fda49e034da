"""MATPOWER's own flows of its cases (matpower_flows.csv, made by matpower_flows.m), to hold the imports against.

Nothing of an import is in them: MATPOWER reads its scripts and solves them by itself.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FILE = Path(__file__).with_suffix(".csv")


@dataclass(frozen=True)
class MatpowerFlow:
    """AC: losses of all branches, lowest and mean voltage of the buses. DC: sum of all branch flows' sizes."""

    losses_mw: float
    lowest_vm_pu: float
    mean_vm_pu: float
    dc_flow_sum_mw: float


@lru_cache(maxsize=1)
def matpower_flows() -> dict[str, MatpowerFlow]:
    """{name of the case: its flows}."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["case"]: MatpowerFlow(*(float(row[key]) for key in MatpowerFlow.__dataclass_fields__)) for row in rows}
