"""Kill runs at their start, in mid-run and at their end, and start two runs at once: `python -m benchmarks kills`.

A kill is planned: at which place of the program, in one process or on ranks of an MPI, of one rank, of the launcher or
of all processes. After it the run is resumed in the same folder; its boundary.h5 has to be that of an undisturbed run,
and nothing may be left of the killed one. Then runs are started two at once in one folder, with other tolerances: their
results may not be mixed. MPIs are those of `--pythons NAME=PYTHON`. Writes results/kills.csv, two_at_once.csv and
kills.md. Linux.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from admm.cli import natural_number
from admm.folder_lock import LOCK
from admm.output import versions
from admm.ownership import origin_of
from admm.resume import latest_iteration
from benchmarks.faults import (
    Launch,
    Transport,
    add_deadline,
    deadlines,
    small_case,
    transports,
    unused_shared_memory,
)
from benchmarks.kill_rank import ALL, END, LAUNCHER, MIDDLE, OF_MPI, OF_RANK_0, PLACES, RANK, START, WHO
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.tables import made_with, markdown_table, write_csv

FILE, PAIRS_FILE = "kills", "two_at_once"
RANKS, ON_RANKS_EVERY = 2, 4
"""Each so many-th run is resumed on ranks, the others in one process."""
DEADLINE_SECONDS, BEYOND_SECONDS, LIMIT_SECONDS, PATIENT_SECONDS = 10.0, 10.0, 120.0, 90.0
"""Of the killed run unless `--deadline` says otherwise, by when after it all has to be over, of a run that hangs; and
the deadline of the other runs."""
CHECKPOINT_EVERY_SECONDS = 0.1
TRIES = 5
"""So often is a kill tried that comes when the run is over; each time after a quarter of the delay."""
TOLERANCES = ("1e-3", "2e-3")
"""Of two runs that begin at once."""
REFUSED = "another run writes there"
SETTLED_SECONDS = 1.0
"""What is in shared memory for longer, mapped by no process, is left behind; else another program is about to."""
BOUNDARY = "boundary.h5"
NOTE = (
    f"{RANKS} ranks; deadline {{deadlines}} s; state saved every {CHECKPOINT_EVERY_SECONDS:g} s. `seconds`: the "
    f"longest from a kill to the end of the last process of that run; `in time`: within the deadline and "
    f"{BEYOND_SECONDS:g} s. `code`: of the killed run. `same bytes`: runs whose boundary.h5 after the resumed run is "
    f"that of an undisturbed run; every {ON_RANKS_EVERY}th is resumed on ranks, the others in one process. `left`: "
    "processes, and files in shared memory, after the kill and after the resumed run; `files left`: locks and "
    "unfinished files after that. Places: start (import, MPI_Init, making of agents), mid-run (an iteration, the "
    "writing of a checkpoint), end (private results, boundary.h5, summary.json, MPI_Finalize)."
)
PAIRS_NOTE = (
    "Two runs with other tolerances that are started at once in one folder. `refused`: one went on, the other ended "
    "with code 2 and one line. `in turn`: the second began after the first was over. `mixed`: the folder has files of "
    "both, or a boundary.h5 of neither."
)


@dataclass
class KillRow:
    """One planned kill. code: exit code of the killed run, None if it hung. seconds: from the kill to the end of its
    last process. *_after: after the run that went on."""

    number: int
    transport: str
    phase: str
    place: str
    killed: str
    delay_seconds: float
    deadline_seconds: float = DEADLINE_SECONDS
    code: int | None = None
    seconds: float | None = None
    in_time: bool | None = None
    saved_iteration: int | None = None
    processes_left: int = 0
    shared_memory_left: int = 0
    resumed_code: int | None = None
    same_bytes: bool | None = None
    processes_after: int = 0
    shared_memory_after: int = 0
    files_after: int = 0
    said: str = ""
    resumed_said: str = ""
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


@dataclass
class PairRow:
    """Two runs at once. codes: of both. how: refused, in turn or mixed."""

    number: int
    transport: str
    codes: str
    how: str
    said: str
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pythons", nargs="*", default=[], metavar="NAME=PYTHON", help="Pythons with an mpirun beside")
    parser.add_argument("--kills", type=natural_number, default=100, help="planned kills")
    add_deadline(parser, DEADLINE_SECONDS)
    parser.add_argument("--pairs", type=natural_number, default=20, help="pairs of runs that begin at once")
    parser.add_argument("--numbers", nargs="*", type=natural_number, help="of both, only these; they count from 0")


def run_kills(options: Options) -> None:
    """Measure all rows; with --resume those that are not there yet, with --again those that are chosen."""
    every = transports(options.own["pythons"], RANKS)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        killed = partial(bench.killed, deadline=options.own["deadline"])
        for name, count, measure in ((FILE, "kills", killed), (PAIRS_FILE, "pairs", bench.pair)):
            found = {row["number"]: row for row in options.former_rows(options.out / f"{name}.csv")}
            for number in options.own["numbers"] or range(options.own[count]):
                if options.resume and not options.again and number in found:
                    continue
                row = asdict(measure(number, every))
                print(" ".join(f"{key}={value}" for key, value in list(row.items())[:-2]), flush=True)
                found[number] = row
                write_csv(options.out / f"{name}.csv", [found[at] for at in sorted(found)])
                write_table(options)


def write_table(options: Options) -> None:
    """Write what both tables come to."""
    kills, pairs = (options_rows(options, name) for name in (FILE, PAIRS_FILE))
    parts = [table(kills)] if kills else []
    parts += [pair_table(pairs)] if pairs else []
    (options.out / f"{FILE}.md").write_text("\n".join(parts), encoding="utf-8")


def options_rows(options: Options, name: str) -> list[dict[str, Any]]:
    from benchmarks.tables import read_csv

    path = options.out / f"{name}.csv"
    return read_csv(path) if path.is_file() else []


def plan(every: Sequence[Transport]) -> list[tuple[Transport, str, str]]:
    """Every place on every transport with everybody that can be killed, in an order that is drawn once."""
    found = [
        (transport, place, who)
        for transport in every
        for place in PLACES
        for who in (WHO if not transport.in_process else WHO[:1])
        if not (transport.in_process and place in OF_MPI)
    ]
    random.Random(0).shuffle(found)
    return found


class Bench:
    """A case, the bytes that sound runs of it end with, and folders for runs that are killed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._case, self._runs = folder, small_case(folder / "case"), 0
        self._sound: dict[tuple[str, str], bytes] = {}

    def killed(self, number: int, every: Sequence[Transport], deadline: float = DEADLINE_SECONDS) -> KillRow:
        """Kill one run, and let it go on."""
        planned, draw = plan(every), random.Random(number)
        transport, place, who = planned[number % len(planned)]
        phase, longest = PLACES[place]
        delay, victim = draw.uniform(0.0, longest), draw.randrange(RANKS)
        victim = 0 if transport.in_process or place in OF_RANK_0 else victim
        for _ in range(TRIES):
            out = self._new_folder()
            words = [place, who, str(delay), str(victim), str(out.with_suffix(".stamp"))]
            arguments = [*self._arguments(out), "--deadline", str(deadline)]
            launch = Launch(transport, ["-m", "benchmarks.kill_rank", *words], arguments, out, False)
            killed = f"rank {victim}" if who == RANK and not transport.in_process else who
            row = KillRow(number, transport.name, phase, place, killed, round(delay, 4), deadline)
            self._end(row, launch)
            if row.seconds is not None:
                break
            delay /= 4.0
        self._resume(row, transport, launch)
        shutil.rmtree(out, ignore_errors=True)
        return row

    def _end(self, row: KillRow, launch: Launch) -> None:
        """Wait for the end of the killed run."""
        stamp = launch.out.with_suffix(".stamp")
        launch.start()
        row.code, row.said = launch.wait(LIMIT_SECONDS)
        struck = stamp.read_text() if stamp.exists() else ""  # empty: the run was over in the middle of writing it
        if struck:
            began = float(struck)
            until = began + row.deadline_seconds + BEYOND_SECONDS
            while launch.processes() and time.time() < until:
                time.sleep(0.01)
            row.seconds = round(time.time() - began, 2)
            row.in_time = row.code is not None and row.seconds <= row.deadline_seconds + BEYOND_SECONDS
        row.processes_left = len(launch.processes())
        row.shared_memory_left = len(left_since(launch))
        row.saved_iteration = latest_iteration(launch.out)

    def _resume(self, row: KillRow, transport: Transport, killed: Launch) -> None:
        """Let the run go on, and see what is left of both."""
        arguments = [*self._arguments(killed.out), "--resume", str(killed.out)]
        resumed_on = Transport("none", transport.python) if row.number % ON_RANKS_EVERY else transport
        again = Launch(resumed_on, ["-m", "admm"], arguments, killed.out, False)
        again.start()
        row.resumed_code, row.resumed_said = again.wait(LIMIT_SECONDS)
        time.sleep(0.05)
        row.processes_after = len(killed.processes()) + len(again.processes())
        row.shared_memory_after = len(left_since(killed))
        parts = [path for path in killed.out.rglob("*") if path.name == LOCK or path.suffix == ".part"]
        row.files_after = len(parts)
        boundary = killed.out / BOUNDARY
        row.same_bytes = boundary.is_file() and boundary.read_bytes() == self._bytes_of(transport)
        killed.end()

    def pair(self, number: int, every: Sequence[Transport]) -> PairRow:
        """Start two runs at once in one folder."""
        transport, out = every[number % len(every)], self._new_folder()
        pair = []
        for at, tolerance in enumerate(TOLERANCES):
            launch = Launch(transport, ["-m", "admm"], self._arguments(out, tolerance), out, False)
            launch._log = out.with_suffix(f".{at}.log")
            pair.append(launch)
        for launch in pair:
            launch.start()
        ends = [launch.wait(LIMIT_SECONDS) for launch in pair]
        codes = [code for code, _ in ends]
        how = self._how(out, transport, codes, [said for _, said in ends])
        shutil.rmtree(out, ignore_errors=True)
        said = " | ".join(words for _, words in ends if words)
        return PairRow(number, transport.name, ", ".join(map(str, codes)), how, said)

    def _how(self, out: Path, transport: Transport, codes: Sequence[int | None], said: Sequence[str]) -> str:
        boundary = (out / BOUNDARY).read_bytes() if (out / BOUNDARY).is_file() else b""
        whose = [self._bytes_of(transport, tolerance) == boundary for tolerance in TOLERANCES]
        origins = {origin_of(path) for path in out.rglob("*") if path.is_file()}
        if len(origins) != 1 or not any(whose):
            return "mixed"
        refused = [code == 2 and REFUSED in words for code, words in zip(codes, said, strict=True)]
        if sum(refused) == 1 and codes[whose.index(True)] == 0 and not refused[whose.index(True)]:
            return "refused"
        return "in turn" if list(codes) == [0, 0] else "mixed"

    def _bytes_of(self, transport: Transport, tolerance: str = "") -> bytes:
        """Of boundary.h5 after an undisturbed run in one process."""
        key = (transport.python, tolerance)
        if key not in self._sound:
            out = self._new_folder()
            sound = Transport("none", transport.python)
            launch = Launch(sound, ["-m", "admm"], self._arguments(out, tolerance), out, False)
            launch.start()
            code, said = launch.wait(LIMIT_SECONDS)
            if code != 0:
                raise RuntimeError(f"the undisturbed run ended with {code}: {said}")
            self._sound[key] = (out / BOUNDARY).read_bytes()
        return self._sound[key]

    def _arguments(self, out: Path, tolerance: str = "") -> list[str]:
        more = ["--tolerance", tolerance] if tolerance else []
        every = ["--checkpoint-every", str(CHECKPOINT_EVERY_SECONDS), "--deadline", str(PATIENT_SECONDS)]
        return ["run", str(self._case), "--out", str(out), *every, *more]

    def _new_folder(self) -> Path:
        self._runs += 1
        return self._folder / f"run{self._runs}"


def left_since(launch: Launch) -> set[Path]:
    """Files in shared memory that were not there before, and that no process has for a while."""
    left = unused_shared_memory() - launch.shared_before
    if left:
        time.sleep(SETTLED_SECONDS)
        left &= unused_shared_memory()
    return left


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each transport, phase and victim."""
    shown = []
    for name, phase, who in _groups(rows):
        group = [row for row in rows if (row["transport"], row["phase"], _who(row)) == (name, phase, who)]
        shown.append({
            "transport": name,
            "phase": phase,
            "killed": who,
            "kills": len(group),
            "code": _counts(row["code"] for row in group),
            "seconds": max(row["seconds"] or 0.0 for row in group),
            "in_time": sum(bool(row["in_time"]) for row in group),
            "left": _sums(group, "left"),
            "resumed_code": _counts(row["resumed_code"] for row in group),
            "same_bytes": sum(row["same_bytes"] for row in group),
            "left_after": _sums(group, "after"),
            "files_left": sum(row["files_after"] for row in group),
        })  # fmt: skip
    same, clean = sum(row["same_bytes"] for row in rows), sum(_is_clean(row) for row in rows)
    in_time = sum(bool(row["in_time"]) for row in rows)
    note = NOTE.format(deadlines=deadlines(rows, DEADLINE_SECONDS))
    told = f"{len(rows)} kills: {in_time} in time, {same} with the same bytes, {clean} with nothing left. {note}"
    return markdown_table([{**row, **made_with(rows)} for row in shown], told, nothing="-")


def _groups(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    names = dict.fromkeys(sorted(row["transport"] for row in rows))
    every = {(row["transport"], row["phase"], _who(row)) for row in rows}
    return (
        (name, phase, who)
        for name in names
        for phase in (START, MIDDLE, END)
        for who in (RANK, LAUNCHER, ALL)
        if (name, phase, who) in every
    )


def _who(row: dict[str, Any]) -> str:
    return row["killed"] if row["killed"] in WHO else RANK


def _is_clean(row: dict[str, Any]) -> bool:
    return not (row["processes_after"] or row["shared_memory_after"] or row["files_after"])


def _sums(rows: Sequence[dict[str, Any]], when: str) -> str:
    return ", ".join(str(sum(row[f"{what}_{when}"] for row in rows)) for what in ("processes", "shared_memory"))


def _counts(values: Iterator[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values}))


def pair_table(rows: Sequence[dict[str, Any]]) -> str:
    shown = [
        {
            "transport": name,
            "pairs": sum(row["transport"] == name for row in rows),
            **{
                how: sum((row["transport"], row["how"]) == (name, how) for row in rows)
                for how in ("refused", "in turn", "mixed")
            },
        }
        for name in dict.fromkeys(row["transport"] for row in rows)
    ]
    return markdown_table([{**row, **made_with(rows)} for row in shown], PAIRS_NOTE, nothing="-")
