"""Where the wall time goes on 1, 2, 3 and 11 ranks: `python -m benchmarks time_by_rank`.

Runs `tieline run ieee33-10ec` as a user would, several times for each number of ranks, and takes the run
of median wall time. Writes results/time_by_rank.csv, .md and .png. Needs an mpirun (`.[mpi]`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from admm.cli import whole_number
from admm.transport import available_cores
from benchmarks.figures import save, start_figure
from benchmarks.options import Options
from benchmarks.tables import markdown_table, write_csv

CASE, RANKS = "ieee33-10ec", (1, 2, 3, 11)
PARTS = ("agents", "operators", "communication", "waiting", "engine")


def find_mpirun() -> str:
    """The mpirun of this Python's own environment, or the one on the path."""
    beside = Path(sys.executable).parent / "mpirun"
    mpirun = str(beside) if beside.is_file() else shutil.which("mpirun")
    if mpirun is None:
        raise SystemExit("there is no mpirun: pip install mpich mpi4py")
    return mpirun


def command(ranks: int, out: Path, case: str) -> list[str]:
    run = [sys.executable, "-m", "admm", "run", case, "--out", str(out)]
    return run if ranks == 1 else [find_mpirun(), "-n", str(ranks), *run]


def measure(ranks: int, case: str) -> dict[str, float]:
    """One run: its summary, with the time of the whole command beside it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        began = time.perf_counter()
        subprocess.run(command(ranks, out, case), check=True, stdout=subprocess.DEVNULL)
        command_seconds = time.perf_counter() - began
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    row = {"ranks": ranks, "iterations": summary["iterations"], "command_seconds": round(command_seconds, 3)}
    row |= {"run_seconds": round(summary["wall_seconds"], 3)}
    row |= {f"{part}_seconds": round(summary[f"{part}_seconds"], 4) for part in PARTS}
    row["engine_and_communication_share"] = round(
        (row["engine_seconds"] + row["communication_seconds"]) / row["run_seconds"], 4
    )
    return row | {"versions": summary["versions"]}


def median_of(rows: list[dict[str, float]]) -> dict[str, float]:
    return sorted(rows, key=lambda row: row["run_seconds"])[len(rows) // 2]


def draw(rows: list[dict[str, float]], path: Path) -> None:
    figure, ((axes,),) = start_figure(height=3.6)
    left = [0.0] * len(rows)
    for part in PARTS:
        seconds = [row[f"{part}_seconds"] for row in rows]
        axes.barh([str(row["ranks"]) for row in rows], seconds, left=left, label=part)
        left = [a + b for a, b in zip(left, seconds, strict=True)]
    axes.set_xlabel("wall time of the run in seconds, without start-up")
    axes.set_ylabel("ranks")
    axes.set_title(f"{CASE} on {available_cores()} cores, {rows[0]['iterations']} iterations")
    axes.invert_yaxis()
    axes.legend(fontsize="small")
    save(figure, path)


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=whole_number, default=5, help="runs for each number of ranks")


def run_time_by_rank(options: Options) -> list[dict[str, float]]:
    rows, repeats = [], options.own["repeats"]
    for ranks in RANKS:
        rows.append(median_of([measure(ranks, CASE) for _ in range(repeats)]))
        print(rows[-1], flush=True)
    write_csv(options.out / "time_by_rank.csv", rows)
    where = f"Median of {repeats} runs on {available_cores()} cores"
    note = f"{where}; `command seconds` has start-up and the AC check in it."
    (options.out / "time_by_rank.md").write_text(markdown_table(rows, note), encoding="utf-8")
    draw(rows, options.out / "time_by_rank.png")
    return rows
