"""What happens to a run when something goes wrong, and to the run that goes on from it: `python -m benchmarks faults`.

Every fault on every transport, once as it is and once under a supervisor, on a small case that saves its state after
every iteration; then `--kills` runs that are killed at random moments. A row says what happened, how it ended, how long
after the fault, what was left, and whether the run that goes on ends with the same bytes in boundary.h5 as one that
nothing happened to. MPIs are those beside this Python and those of `--pythons NAME=PYTHON`, each with an mpirun of its
own. Writes results/faults.csv and .md. Linux.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from admm.cli import natural_number, positive_number
from admm.output import versions
from admm.resume import CHECKPOINT, latest_iteration
from admm.shared_memory import left_behind
from admm.supervise import end_all, marked
from benchmarks.fault_rank import BETWEEN_RANKS, FAULTS, OUTSIDE
from benchmarks.measure import machine
from benchmarks.options import Options
from benchmarks.tables import made_with, markdown_table, write_csv
from networks.case_file import BUNDLED, CASE_FILE

FILE = "faults"
COMMUNITIES, PERIODS = ("ec01-homes", "ec02-homes-cars", "ec04-shops"), 6
RANKS, VICTIM, STRIKES_AT = 3, 1, 7
DEADLINE_SECONDS, BEYOND_SECONDS, LIMIT_SECONDS = 5.0, 10.0, 35.0
"""Of silence unless `--deadline` says otherwise, by when after it all has to be over, and after which, beyond the
deadline, this program calls a run hung."""
SOUND = "none"
MARK = "TIELINE_FAULTS"
"""In the environment of every process of a launch, its supervisor included."""
SUPERVISED = """
import sys
from pathlib import Path
from admm.resume import latest_iteration
from admm.supervise import supervise
sys.exit(supervise({}))
"""
NOTE = (
    f"Runs of {len(COMMUNITIES)} communities over {PERIODS} periods; {RANKS} ranks, of which rank {VICTIM} fails in "
    f"iteration {STRIKES_AT}; deadline {{deadlines}} s; state saved after every iteration. `seconds`: from the "
    "fault to the end of the last process, with the launches that follow where supervised. `left`: processes after the "
    f"deadline and {BEYOND_SECONDS:g} s, and then files in shared memory. `same bytes`: whether boundary.h5 of the run "
    "that went on from the checkpoint is that of a run without a fault; a supervised run goes on by itself. A random "
    "kill strikes one process of a launch (its mpirun, too) or all of them, at any moment of its life; where all are "
    "killed, nobody but a supervisor is left to remove what MPI has in shared memory. A single process that is "
    "stopped has nobody but a supervisor to notice it."
)


@dataclass
class FaultRow:
    """code: exit code; None, hung. said: its last words. same_bytes: of boundary.h5, after `launches` in all."""

    fault: str
    transport: str
    supervised: bool
    code: int | None = None
    seconds: float | None = None
    within_limit: bool | None = None
    saved_iteration: int | None = None
    processes_left: int = 0
    shared_memory_left: int = 0
    resumed_code: int | None = None
    same_bytes: bool | None = None
    said: str = ""
    seed: int | None = None
    deadline_seconds: float = DEADLINE_SECONDS
    versions: str = field(default_factory=versions)
    machine: str = field(default_factory=machine)


@dataclass(frozen=True)
class Transport:
    """How ranks are launched. words: what stands before the Python."""

    name: str
    python: str
    words: tuple[str, ...] = ()

    @property
    def in_process(self) -> bool:
        return not self.words


def add_own_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pythons", nargs="*", default=[], metavar="NAME=PYTHON", help="Pythons with an mpirun beside")
    parser.add_argument("--kills", type=natural_number, default=200, help="runs that are killed at random moments")
    parser.add_argument("--numbers", nargs="*", type=natural_number, help="of such runs, only these; they count from 0")
    parser.add_argument("--seed", type=natural_number, default=0, help="of the random moments")
    parser.add_argument("--faults", nargs="*", help="only these")
    add_deadline(parser, DEADLINE_SECONDS)


def add_deadline(parser: argparse.ArgumentParser, seconds: float) -> None:
    parser.add_argument(
        "--deadline", type=positive_number, default=seconds, help="of a run that fails, s (busy machine: more)"
    )


def run_faults(options: Options) -> list[dict[str, Any]]:
    """All rows, as dicts; with --again those that are there already, too, but for what is run anew."""
    path = options.out / f"{FILE}.csv"
    found = {identity(row): row for row in options.former_rows(path)}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options.own["deadline"])
        for row in bench.rows(transports(options.own["pythons"]), options.own):
            print(" ".join(f"{key}={value}" for key, value in list(asdict(row).items())[:-2]), flush=True)
            found[identity(asdict(row))] = asdict(row)
            write_csv(path, list(found.values()))
            (options.out / f"{FILE}.md").write_text(table(list(found.values())), encoding="utf-8")
    return list(found.values())


def identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["fault"], row["transport"], row["supervised"], row["seed"]


def transports(pythons: Sequence[str], ranks: int = RANKS) -> list[Transport]:
    """One process, and an MPI for each Python."""
    found = [Transport("in-process", sys.executable)]
    for text in pythons or [f"mpi={sys.executable}"]:
        name, _, python = text.partition("=")
        found.append(Transport(name, python, (str(Path(python).parent / "mpirun"), "-n", str(ranks))))
    return found


class Bench:
    """A case, the bytes that a sound run of it ends with, and folders for runs that fail."""

    def __init__(self, folder: Path, deadline_seconds: float) -> None:
        self._folder, self._case, self._runs = folder, small_case(folder / "case"), 0
        self._deadline, self._limit = deadline_seconds, deadline_seconds + LIMIT_SECONDS
        self._sound: dict[str, bytes] = {}
        self._lasts: dict[str, float] = {}

    def rows(self, every: Sequence[Transport], own: dict[str, Any]) -> Iterator[FaultRow]:
        for transport in every:
            for fault in [*FAULTS, *OUTSIDE]:
                if (own["faults"] and fault not in own["faults"]) or (transport.in_process and fault in BETWEEN_RANKS):
                    continue
                for supervised in (False, True):
                    if transport.in_process and fault == "SIGSTOP" and not supervised:
                        continue
                    yield self.planted(transport, fault, supervised)
        for number in own["numbers"] or range(own["kills"]):
            yield self.killed(every[number % len(every)], own["seed"] + number, supervised=number % 2 == 1)

    def planted(self, transport: Transport, fault: str, supervised: bool) -> FaultRow:
        out = self._new_folder()
        stamp = out.with_suffix(".stamp")
        words = [fault, str(STRIKES_AT), "0" if transport.in_process else str(VICTIM), str(stamp)]
        launch = Launch(
            transport, ["-m", "benchmarks.fault_rank", *words], self._arguments(out), out, supervised, self._deadline
        )
        row = FaultRow(fault, transport.name, supervised, deadline_seconds=self._deadline)
        self._watch(row, launch, stamp, fault if fault in OUTSIDE else None)
        if fault == "checkpoint damaged":
            flip_a_byte(out / CHECKPOINT)
        self._resume(row, transport, out)
        return row

    def killed(self, transport: Transport, seed: int, supervised: bool) -> FaultRow:
        """A run that is killed at a random moment: one of its processes, or all at once, but for its supervisor."""
        draw, out, victims = random.Random(seed), self._new_folder(), []
        while not victims:  # a run that was over before is not counted
            launch = Launch(transport, ["-m", "admm"], self._arguments(out), out, supervised, self._deadline)
            launch.start()
            time.sleep(draw.uniform(0.0, self._seconds_of(transport)))
            victims = launch.victims()
            if not victims:
                launch.wait(self._limit)
                shutil.rmtree(out, ignore_errors=True)
        if draw.random() < 0.5:
            victims = [draw.choice(victims)]
        began = time.time()
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        row = FaultRow("random kill", transport.name, supervised, seed=seed, deadline_seconds=self._deadline)
        self._end(row, launch, began)
        self._resume(row, transport, out)
        return row

    def _seconds_of(self, transport: Transport) -> float:
        """How long a run without a fault takes."""
        if transport.name not in self._lasts:
            out, began = self._new_folder(), time.time()
            launch = Launch(transport, ["-m", "admm"], self._arguments(out), out, False)
            launch.start()
            launch.wait(self._limit)
            self._lasts[transport.name] = time.time() - began
        return self._lasts[transport.name]

    def _watch(self, row: FaultRow, launch: Launch, stamp: Path, sent: str | None) -> None:
        launch.start()
        until = time.time() + self._limit
        while not stamp.exists() and launch.running() and time.time() < until:
            time.sleep(0.01)
        if sent is not None:
            launch.child.send_signal(getattr(signal, sent))
        began = time.time() if not stamp.exists() else stamp.stat().st_mtime
        self._end(row, launch, began)

    def _end(self, row: FaultRow, launch: Launch, began: float) -> None:
        row.code, row.said = launch.wait(self._limit)
        until = max(began, time.time() if row.supervised else 0.0) + self._deadline + BEYOND_SECONDS
        while launch.processes() and time.time() < until:
            time.sleep(0.01)
        row.seconds = round(time.time() - began, 2)
        row.processes_left = len(launch.processes())
        row.within_limit = row.code is not None and not row.processes_left and time.time() < until
        row.shared_memory_left = len(unused_shared_memory() - launch.shared_before)
        launch.end()
        row.saved_iteration = latest_iteration(launch.out)

    def _resume(self, row: FaultRow, transport: Transport, out: Path) -> None:
        again = Launch(transport, ["-m", "admm"], [*self._arguments(out), "--resume", str(out)], out, False)
        if row.supervised and row.code == 0:
            row.resumed_code = 0
        else:
            again.start()
            row.resumed_code, _ = again.wait(self._limit)
        boundary = out / "boundary.h5"
        row.same_bytes = boundary.is_file() and boundary.read_bytes() == self._bytes_of(transport)
        shutil.rmtree(out, ignore_errors=True)

    def _bytes_of(self, transport: Transport) -> bytes:
        """Of boundary.h5 after a run without a fault, in one process."""
        if transport.python not in self._sound:
            out = self._new_folder()
            launch = Launch(Transport(SOUND, transport.python), ["-m", "admm"], self._arguments(out), out, False)
            launch.start()
            code, said = launch.wait(self._limit)
            if code != 0:
                raise RuntimeError(f"the run without a fault ended with {code}: {said}")
            self._sound[transport.python] = (out / "boundary.h5").read_bytes()
        return self._sound[transport.python]

    def _arguments(self, out: Path) -> list[str]:
        every = ["--checkpoint-every", "1e-6", "--deadline", str(self._deadline)]
        return ["run", str(self._case), "--out", str(out), *every]

    def _new_folder(self) -> Path:
        self._runs += 1
        return self._folder / f"run{self._runs}"


class Launch:
    """One start of a run, alone or under a supervisor."""

    def __init__(
        self,
        transport: Transport,
        program: Sequence[str],
        arguments: Sequence[str],
        out: Path,
        supervised: bool,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self.out, self.mark = out, uuid.uuid4().hex
        command = [*transport.words, transport.python, *program, *arguments]
        if supervised:
            resume = ["--resume", str(out)]
            words = f"{command!r}, {resume!r}, 2, {deadline_seconds!r}, lambda: latest_iteration(Path({str(out)!r}))"
            command = [transport.python, "-c", SUPERVISED.format(words)]
        self._command, self._supervised = command, supervised
        self._log = out.with_suffix(".log")

    def start(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
        environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        environment |= {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", MARK: self.mark}
        self.shared_before = unused_shared_memory()
        with self._log.open("wb") as log:
            self.child = subprocess.Popen(
                self._command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def processes(self) -> list[int]:
        """What lives of it."""
        return sorted(marked(self.mark, MARK))

    def victims(self) -> list[int]:
        """Its processes but the supervisor."""
        return [pid for pid in self.processes() if not self._supervised or pid != self.child.pid]

    def end(self) -> None:
        end_all(self.mark, MARK)

    def running(self) -> bool:
        return self.child.poll() is None

    def wait(self, seconds: float) -> tuple[int | None, str]:
        """Exit code, None if it hangs; and the last line that says something."""
        try:
            code: int | None = self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
            self.end()
            self.child.wait()
        return (128 - code if code is not None and code < 0 else code), last_words(
            self._log.read_text(errors="replace")
        )


TELLING = (r"tieline: launch", r"agent '", r"rank \d+:", r"tieline:", r"Error: ")
"""What a line has that says what went wrong, the most telling first."""


def last_words(text: str) -> str:
    """The last one of the most telling lines."""
    text = re.sub(r"\x1b\[[?\d;]*[a-zA-Z]|\0", "", text)  # what a terminal would take for commands; Open MPI's zeros
    for pattern in TELLING:
        found = [line for line in text.splitlines() if re.search(pattern, line)]
        if found:
            line = found[-1][re.search(r"tieline:|rank \d+|", found[-1]).start() :]
            return re.sub(r"/\S*/", "", line.strip())[:160]
    return ""


def unused_shared_memory() -> set[Path]:
    """Files of MPI that no process has mapped."""
    return set(left_behind(since=0.0))


def small_case(to: Path) -> Path:
    """A few communities of the main case over a few periods."""
    shutil.copytree(BUNDLED / "ieee33-10ec", to, ignore=shutil.ignore_patterns("source_profiles.csv", "reference.json"))
    text = (to / CASE_FILE).read_text(encoding="utf-8").replace("periods = 24", f"periods = {PERIODS}", 1)
    parts = re.split(r"(?m)^(?=\[\[?[a-z])", text)
    keep = [p for p in parts if not p.startswith(("[[agent]]", "[variant")) or any(f'"{n}"' in p for n in COMMUNITIES)]
    (to / CASE_FILE).write_text("".join(part for part in keep if "heat_kw" not in part), encoding="utf-8")
    return to


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The matrix, and a line for all random kills of a transport."""
    shown = [{key: row[key] for key in SHOWN} for row in rows if row["seed"] is None]
    for name, supervised in dict.fromkeys((r["transport"], r["supervised"]) for r in rows if r["seed"] is not None):
        kills = [r for r in rows if r["seed"] is not None and (r["transport"], r["supervised"]) == (name, supervised)]
        shown.append({
            "fault": f"random kills: {len(kills)}",
            "transport": name,
            "supervised": supervised,
            "code": ", ".join(str(code) for code in sorted({str(row["code"]) for row in kills})),
            "seconds": max(row["seconds"] for row in kills),
            "within_limit": all(row["within_limit"] for row in kills),
            "saved_iteration": None,
            "processes_left": sum(row["processes_left"] for row in kills),
            "shared_memory_left": sum(row["shared_memory_left"] for row in kills),
            "resumed_code": ", ".join(sorted({str(row["resumed_code"]) for row in kills})),
            "same_bytes": f"{sum(row['same_bytes'] for row in kills)} of {len(kills)}",
            "said": "",
        })  # fmt: skip
    below, note = made_with(rows), NOTE.format(deadlines=deadlines(rows, DEADLINE_SECONDS))
    return markdown_table([{**row, **below} for row in shown], note, nothing="-")


def deadlines(rows: Sequence[dict[str, Any]], usual_seconds: float) -> str:
    """Name those of all rows, s; rows that do not say have the usual one."""
    found = sorted({row.get("deadline_seconds") or usual_seconds for row in rows})
    return " or ".join(f"{seconds:g}" for seconds in found)


SHOWN = tuple(FaultRow.__dataclass_fields__)[: tuple(FaultRow.__dataclass_fields__).index("seed")]
