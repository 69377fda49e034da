"""What is bounded staleness worth where ranks are late? `python -m benchmarks stragglers`.

Runs the main case over MPI to the engine's own stop, with one rank slowed tenfold, and with stalls of single answers
that hit all ranks but the driving one; each with all answers waited for (staleness 0) and with answers that may
be 1, 2, 5 and 10 iterations old. Writes results/stragglers.csv and .md. Needs an mpirun (`.[mpi]`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import admm
from admm.cli import natural_number, whole_number
from admm.output import versions
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.tables import markdown_table, write_csv
from benchmarks.time_by_rank import find_mpirun

CASE, RANKS, CAP = "ieee33-10ec", 3, 500
STALENESS = (0, 1, 2, 5, 10)
TROUBLES = ("none", "one slow rank", "stalls")
FILE = "stragglers"
TIMES = 10
STALL_SHARE, STALL_SECONDS = 0.02, 0.5
TIME_LIMIT_SECONDS = 300.0


class Late:
    """An agent that answers late; the answer says how long it took in all."""

    def __init__(self, agent: admm.Agent) -> None:
        self._agent, self.given = agent, 0
        self.prepare, self.solution = agent.prepare, agent.solution

    def seconds_more(self, seconds: float) -> float:
        """How much longer an answer takes that took so long."""
        return 0.0

    def answer(self, question: admm.Question) -> admm.Answer:
        began = time.perf_counter()
        answer = self._agent.answer(question)
        self.given += 1
        time.sleep(self.seconds_more(time.perf_counter() - began))
        return replace(answer, solve_seconds=time.perf_counter() - began)


class Slow(Late):
    """Takes TIMES as long as it would."""

    def seconds_more(self, seconds: float) -> float:
        return (TIMES - 1) * seconds


class Stalling(Late):
    """Now and then, as a seeded generator says, an answer takes STALL_SECONDS longer."""

    def __init__(self, agent: admm.Agent, seed: int) -> None:
        super().__init__(agent)
        self._rng = np.random.default_rng(seed)

    def seconds_more(self, seconds: float) -> float:
        return STALL_SECONDS if self._rng.random() < STALL_SHARE else 0.0


def made_late(agent: admm.Agent, trouble: str, rank: int, ranks: int, seed: int) -> admm.Agent:
    """The agent as it is in a run with this trouble. The driving rank and the operators are never in trouble."""
    if trouble == "one slow rank" and rank == ranks - 1:
        return Slow(agent)
    if trouble == "stalls" and rank > 0:
        return Stalling(agent, seed)
    return Late(agent)


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=whole_number, default=3, help="runs of each kind; the median time counts")
    parser.add_argument("--staleness", type=natural_number, nargs="+", default=list(STALENESS), metavar="K")
    parser.add_argument("--troubles", nargs="+", choices=TROUBLES, default=list(TROUBLES))
    parser.add_argument("--ranks", type=whole_number, default=RANKS)


def measure(job: dict[str, Any], ranks: int) -> dict[str, Any]:
    """One run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        command = [find_mpirun(), "-n", str(ranks), sys.executable, "-m", "benchmarks.straggler_rank", str(path)]
        subprocess.run(command, check=True, timeout=TIME_LIMIT_SECONDS, stdout=subprocess.DEVNULL)
        return json.loads(path.with_suffix(".done").read_text(encoding="utf-8"))


def median_row(trouble: str, staleness: int, runs: list[dict[str, Any]], options: Options) -> dict[str, Any]:
    """The run of median time, with the spread of all beside it."""
    runs = sorted(runs, key=lambda run: run["seconds"])
    row = {"trouble": trouble, "staleness": staleness, **runs[len(runs) // 2]}
    row |= {"least_seconds": runs[0]["seconds"], "most_seconds": runs[-1]["seconds"]}
    return row | {"ranks": options.own["ranks"], "solver": options.solver, "versions": versions(), "machine": machine()}


def run_stragglers(options: Options) -> list[dict[str, Any]]:
    """One run of each kind after the other, and again: what else the machine does hits all alike. Stalls are others in
    each repeat."""
    own = options.own
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for repeat in range(own["repeats"]):
        for kind in itertools.product(own["troubles"], own["staleness"]):
            job = {"case": CASE, "trouble": kind[0], "staleness": kind[1], "seed": 1000 * repeat}
            job |= {"cap": options.cap or CAP, "solver": options.solver}
            runs.setdefault(kind, []).append(measure(job, own["ranks"]))
            print(*kind, runs[kind][-1], flush=True)
    rows = [median_row(*kind, found, options) for kind, found in runs.items()]
    write_csv(options.out / f"{FILE}.csv", rows)
    note = (
        f"{CASE} to the engine's stop; the run of median time of {own['repeats']}. One slow rank: answers of "
        f"the last rank take {TIMES} times as long. Stalls: one answer in {1 / STALL_SHARE:g} takes {STALL_SECONDS} s "
        "longer, on all ranks but the driving one. `slowest rank answers`: an agent's on the rank that gave fewest."
    )
    (options.out / f"{FILE}.md").write_text(markdown_table(rows, note), encoding="utf-8")
    return rows
