"""What counter-measures against inference cost in accuracy, exchanges, bytes and time: `python -m benchmarks privacy`.

privacy_noise.csv    communities of the main case that tell noisy values, for a few budgets (`privacy_noise.py`)
privacy_masks.csv    ever more members, each by itself and in groups that tell masked sums (`privacy_masks.py`)
privacy.md           both: medians over the seeds, and what to make of them
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, fields
from statistics import median
from typing import Any

from admm.cli import whole_number
from benchmarks.options import Options
from benchmarks.privacy_masks import MEMBERS, mask_rows
from benchmarks.privacy_noise import SEEDS, NoiseRow, noise_rows
from benchmarks.tables import BELOW_THE_TABLE, markdown_table, read_csv, write_csv

FILE, NOISE_FILE, MASKS_FILE = "privacy.md", "privacy_noise.csv", "privacy_masks.csv"
NOISE_NOTE = (
    "Budget: (epsilon, delta = 1e-5) over all answers of a run, between two communities of which one has a household "
    "more that takes 1 kW in the root mean square, in power and in both flexibilities. Of one answer: each by itself. "
    "Of anything: between any two communities within the clip. Sigma: of the noise on power. Mismatch: told against "
    "granted, of scale. Imbalance: energy that communities draw otherwise than it was granted, of all that they draw. "
    "Cost: of what they draw, with operators that follow, above the optimum, of turnover; -: it does not fit into the "
    "feeder. Medians over seeds; the first line is without noise."
)
MASKS_NOTE = (
    "Each of the ten communities cut into so many members, at one node. Exchanges, MB and seconds to the yardstick "
    "(objective within 1e-4 of turnover, mismatch at most 1e-3 of scale); stop: the engine's own, gap and mismatch "
    "there. By itself: each member has a coupling of its own. Mask ms: to mask one answer, on one member. One process, "
    "one thread; the machine had other work, so seconds are rough."
)


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=whole_number, default=SEEDS, help="of the noise")
    parser.add_argument("--members", type=whole_number, nargs="+", default=list(MEMBERS), help="of each group")
    parser.add_argument("--parts", nargs="*", choices=("noise", "masks"), default=["noise", "masks"], help="or none")


def run_privacy(options: Options) -> list[dict[str, Any]]:
    """--parts chooses; another part's rows are those of its last run, and with none only the tables are made."""
    makers = {
        "noise": (NOISE_FILE, lambda: noise_rows(options.own["seeds"], options.solver, options.cap)),
        "masks": (MASKS_FILE, lambda: mask_rows(options.own["members"], options.solver, options.cap)),
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for part, (file, make) in makers.items():
        if part in options.own["parts"]:
            found[part] = []
            for row in make():
                found[part].append(asdict(row))
                print(" ".join(f"{k}={v}" for k, v in found[part][-1].items() if k not in BELOW_THE_TABLE), flush=True)
            write_csv(options.out / file, found[part])
        elif (options.out / file).is_file():
            found[part] = read_csv(options.out / file)
    words = ["## Noise", "", noise_table(found["noise"])] if "noise" in found else []
    words += ["## Masked sums", "", markdown_table(found["masks"], MASKS_NOTE, nothing="-")] if "masks" in found else []
    (options.out / FILE).write_text("\n".join(words), encoding="utf-8")
    return [row for rows in found.values() for row in rows]


def noise_table(rows: Sequence[dict[str, Any]]) -> str:
    """A line a budget: medians over the seeds; a cost that is missing in one of them is missing."""
    budgets = list(dict.fromkeys((row["epsilon"], row["answers"]) for row in rows))
    lines = []
    for budget in budgets:
        mine = [row for row in rows if (row["epsilon"], row["answers"]) == budget]
        line = {}
        for key in (f.name for f in fields(NoiseRow) if f.name not in ("seed", "case", "seconds", "fits")):
            values = [row[key] for row in mine]
            number = all(isinstance(value, int | float) for value in values)
            line[key] = float(f"{median(values):.3g}") if number else None if None in values else values[0]
        lines.append(line)
    return markdown_table(lines, NOISE_NOTE, nothing="-")
