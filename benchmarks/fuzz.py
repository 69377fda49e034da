"""Hostile input: bad input is made from good input and tried, `python -m benchmarks fuzz --cases N --seed S`.

Every case must end in a result, or in an error of ours whose message is one line (for the command line: exit code 1,
2, 3 or 4 and one line on standard error), within a limit of time, and leave no file that is half there. Cases run in
a process of their own, so that a crash is seen and counted. Each is drawn from the seed, its subject and its number:

    python -m benchmarks fuzz --seed 1 --subjects messages --first 123 --cases 1 --limit 60       one case again

Writes results/fuzz.csv and .md, cases by subject and outcome, and where there are faults fuzz_faults.csv. Ends with
exit code 1 if there is any fault.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from admm.cli import natural_number, positive_number, whole_number
from admm.output import versions
from benchmarks.fuzz_subjects import SUBJECTS
from benchmarks.fuzz_worker import FAULT, TRACEBACK
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.registry import chosen
from benchmarks.tables import markdown_table, write_csv

FILE, FAULTS = "fuzz", "fuzz_faults"
CASES, SEED, LIMIT_SECONDS = 20_000, 1, 30.0
BATCH = 1000
"""Cases of one process."""
START_SECONDS = 180.0
"""What a process may take until it begins its first case."""
CRASH, HANG = "crash", "hang"
BAD = (FAULT, TRACEBACK, CRASH, HANG)
ROOT, WORKER = Path(__file__).parent.parent, "benchmarks.fuzz_worker"


@dataclass(frozen=True)
class Case:
    """How one case ended."""

    subject: str
    number: int
    outcome: str
    words: str = ""
    ms: float = 0.0


@dataclass
class FuzzRow:
    """Cases of one subject by outcome. results: taken; refused: an error of ours; the rest are faults."""

    subject: str
    spoilt: str
    seed: int
    first: int
    cases: int = 0
    results: int = 0
    refused: int = 0
    faults: int = 0
    tracebacks: int = 0
    crashes: int = 0
    hangs: int = 0
    slowest_ms: float = 0.0
    seconds: float = 0.0
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)

    def add(self, case: Case) -> None:
        columns = {FAULT: "faults", TRACEBACK: "tracebacks", CRASH: "crashes", HANG: "hangs"}
        taken = {"result": "results", "exit 0": "results", "exit 3": "results"}
        column = columns.get(case.outcome) or taken.get(case.outcome, "refused")
        setattr(self, column, getattr(self, column) + 1)
        self.cases += 1
        self.slowest_ms = max(self.slowest_ms, round(case.ms, 1))


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", type=whole_number, default=CASES, metavar="N", help="of all subjects together")
    parser.add_argument("--seed", type=natural_number, default=SEED, metavar="S")
    parser.add_argument("--first", type=natural_number, default=0, metavar="N", help="of each subject's first case")
    parser.add_argument("--limit", type=positive_number, default=LIMIT_SECONDS, metavar="SECONDS", help="of a case")


def run_fuzz(options: Options) -> list[dict[str, Any]]:
    own, names = options.own, chosen(list(SUBJECTS), options.subjects, "subject")
    rows, bad = [], []
    for name, count in shares(names, own["cases"]).items():
        row, began = FuzzRow(name, SUBJECTS[name].words, own["seed"], own["first"]), time.perf_counter()
        for case in tried(name, own["seed"], own["first"], count, own["limit"]):
            row.add(case)
            if case.outcome in BAD:
                bad.append(case)
                print(f"  {name} {case.number}: {case.outcome}: {case.words}", flush=True)
        row.seconds = round(time.perf_counter() - began, 1)
        rows.append(asdict(row))
        print({key: value for key, value in rows[-1].items() if key not in ("versions", "machine")}, flush=True)
    _write(options.out, rows, bad)
    if bad:
        raise SystemExit(f"{len(bad)} cases ended as no input may: see {options.out / FAULTS}.csv")
    return rows


def shares(names: list[str], cases: int) -> dict[str, int]:
    """How many cases each subject gets, at least one."""
    whole = sum(SUBJECTS[name].share for name in names)
    return {name: max(1, round(cases * SUBJECTS[name].share / whole)) for name in names}


def tried(subject: str, seed: int, first: int, count: int, limit: float) -> Iterator[Case]:
    """All cases in order, in as many processes as it takes."""
    done = first
    while done < first + count:
        for case in _batch(subject, seed, done, min(BATCH, first + count - done), limit):
            done = case.number + 1
            yield case


def _batch(subject: str, seed: int, first: int, count: int, limit: float) -> Iterator[Case]:
    """The cases of one process; one that crashes or hangs ends with that case."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory(prefix="tieline-fuzz-", ignore_cleanup_errors=True) as folder:
        arguments = [subject, str(seed), str(first), str(count), folder, str(writing)]
        command = [sys.executable, "-m", WORKER, *arguments]
        with subprocess.Popen(command, cwd=ROOT, pass_fds=(writing,), stdin=subprocess.DEVNULL) as process:
            os.close(writing)
            try:
                yield from _followed(_Lines(reading), subject, count, limit, Path(folder), process)
            finally:
                process.kill()
                os.close(reading)


def _followed(
    lines: _Lines, subject: str, count: int, limit: float, folder: Path, process: subprocess.Popen
) -> Iterator[Case]:
    for _ in range(count):
        begun = lines.next(START_SECONDS)
        if not begun:
            raise RuntimeError(f"the process for '{subject}' did not begin: its valid input is not valid, see above")
        number, told = int(begun), lines.next(limit)
        if told:
            yield Case(subject, number, **json.loads(told))
            continue
        hangs = told is None
        words = f"no end within {limit:g} s" if hangs else f"ended with {process.wait()}: {_said(folder)}"
        yield Case(subject, number, HANG if hangs else CRASH, words, 1e3 * limit * hangs)
        return


class _Lines:
    """Lines from a pipe, each waited for no longer than it may take."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._rest = descriptor, b""

    def next(self, seconds: float) -> bytes | None:
        """b"" at the end, None if there is no line in time."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._rest:
            if not select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            more = os.read(self._descriptor, 1 << 16)
            if not more:
                return b""
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def _said(folder: Path) -> str:
    terminal = folder / "terminal"
    return " ".join(terminal.read_text(errors="replace").split())[:1000] if terminal.is_file() else ""


def _write(out: Path, rows: list[dict[str, Any]], bad: list[Case]) -> None:
    write_csv(out / f"{FILE}.csv", rows)
    note = "results: taken; refused: an error of ours in one line. All further columns of outcomes have to be 0."
    (out / f"{FILE}.md").write_text(markdown_table(rows, note), encoding="utf-8")
    if bad:
        write_csv(out / f"{FAULTS}.csv", [asdict(case) for case in bad])
    else:
        (out / f"{FAULTS}.csv").unlink(missing_ok=True)
