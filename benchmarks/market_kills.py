"""Kill `tieline market` at random moments, resume it, and compare all results with those of an undisturbed market.

A small copy of the main case is cleared over a few hours, a few iterations a gate. A kill takes every process of a
launch by SIGKILL. Some markets are resumed on another number of ranks, and some are killed twice. Writes
results/market_kills.csv and .md.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from admm import InputError
from admm.output import versions
from benchmarks.faults import small_case
from benchmarks.options import Options
from benchmarks.tables import markdown_table, write_csv

SEED, KILLS, NOT_CONVERGED = 7, 20, 3
FEW = ("--max-iterations", "4")
LONGEST_SECONDS = 300.0
RANKS = (1, 3)
COMPARED = ("settlement/*.csv", "settlement/market.h5", "intra-day/private/*.h5", "intra-day/boundary.h5")
"""Files whose bytes must be those of the undisturbed market."""


@dataclass
class KillRow:
    """One market that was killed. ranks: of the first launch; resumed_on: of the second. seconds: until the kill.
    steps: lines of steps that were finished before. went_on_after: what the resumed one said."""

    number: int
    ranks: int
    resumed_on: int
    kills: int
    seconds: float
    steps: int
    went_on_after: str
    code: int
    files: int
    same_bytes: bool


def launch(case: Path, out: Path, ranks: int, log: Path, resume: bool) -> subprocess.Popen:
    """Start a market in a process group of its own."""
    where = ["--resume", str(out)] if resume else ["--out", str(out)]
    mpirun = [str(Path(sys.executable).parent / "mpirun"), "-n", str(ranks)] if ranks > 1 else []
    command = [*mpirun, sys.executable, "-m", "admm", "market", str(case), *FEW, *where]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    with log.open("wb") as file:
        return subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)


def kill_group(child: subprocess.Popen) -> None:
    """Kill a launch and all that it has started, and wait until none of it is left."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    while session_of(child.pid):
        for pid in session_of(child.pid):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def session_of(leader: int) -> list[int]:
    """List the living processes of a session: ranks of MPICH have process groups of their own."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def contents(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for glob in COMPARED for path in sorted(out.glob(glob))}


def killed(case: Path, folder: Path, number: int, most_seconds: float, expected: dict[str, bytes]) -> KillRow:
    """Kill one market, once or twice, and resume it to its end."""
    draw = random.Random(f"{SEED}-{number}")
    ranks, resumed_on, kills = RANKS[number % 2], draw.choice(RANKS), 1 + (number % 5 == 4)
    out, log = folder / f"out-{number}", folder / f"log-{number}"
    seconds, lines = draw.uniform(0.2, most_seconds), ""
    for again in range(kills):
        child = launch(case, out, ranks, log, resume=bool(again))
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            kill_group(child)
        lines = log.read_text(errors="replace")
    child = launch(case, out, resumed_on, log, resume=True)
    code = child.wait(LONGEST_SECONDS)
    said = re.findall(r"goes on after (.*), from|has (no checkpoint) yet", log.read_text(errors="replace"))
    found = contents(out)
    return KillRow(
        number=number,
        ranks=ranks,
        resumed_on=resumed_on,
        kills=kills,
        seconds=round(seconds, 1),
        steps=sum(" iterations  " in line for line in lines.splitlines()),
        went_on_after="".join(said[0]) if said else "",
        code=code,
        files=len(found),
        same_bytes=found == expected,
    )


def run_market_kills(options: Options) -> None:
    """Kill twenty markets, and write the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        case, began = small_case(folder / "case"), time.monotonic()
        whole = launch(case, folder / "whole", 1, folder / "log", resume=False)
        if whole.wait(LONGEST_SECONDS) != NOT_CONVERGED:
            raise InputError((folder / "log").read_text())
        most = time.monotonic() - began
        expected, rows = contents(folder / "whole"), []
        for number in range(KILLS):
            rows.append({**asdict(killed(case, folder, number, most, expected)), "versions": versions()})
            print(rows[-1], flush=True)
            write_csv(options.out / "market_kills.csv", rows)
    same = sum(row["same_bytes"] for row in rows)
    note = f"{same} of {len(rows)} ended with the bytes of the undisturbed market, in all files that were compared."
    (options.out / "market_kills.md").write_text(markdown_table(rows, note, nothing="-"), encoding="utf-8")
