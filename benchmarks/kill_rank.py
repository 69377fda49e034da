"""One rank of `tieline run` with a strike: `python -m benchmarks.kill_rank PLACE WHO DELAY RANK STAMP run ...`.

A strike is a SIGKILL of this rank, of the launcher or of every process of the job, DELAY seconds after the rank comes
to a place, while its work goes on. The file STAMP is written at the strike.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

MARK = "TIELINE_FAULTS"
"""In the environment of every process of a job, the same for all."""
RANK, LAUNCHER, ALL = WHO = ("a rank", "the launcher", "all")
START, MIDDLE, END = "start", "mid-run", "end"
PLACES: Mapping[str, tuple[str, float]] = {
    "import": (START, 0.4),
    "MPI_Init": (START, 0.04),
    "agents": (START, 0.2),
    "iteration": (MIDDLE, 0.2),
    "checkpoint": (MIDDLE, 0.005),
    "private results": (END, 0.005),
    "boundary.h5": (END, 0.005),
    "summary.json": (END, 0.005),
    "MPI_Finalize": (END, 0.002),
}
"""{place: (phase of the run, longest delay, s)}; the first four last for long, the writing of a file does not."""
SHORT_SECONDS = 0.01
OF_MPI, OF_RANK_0 = ("MPI_Init", "MPI_Finalize"), ("boundary.h5", "summary.json")
ITERATION = 2
"""Kills in mid-run come after it, so that there is a checkpoint to go on from."""


class Strike:
    """The kill at a place; a second arrival there does nothing."""

    def __init__(self, place: str, who: str, delay_seconds: float, stamp: Path) -> None:
        self._place, self._who, self._delay_seconds, self._stamp = place, who, delay_seconds, stamp
        self._due = True

    def at(self, place: str) -> None:
        """This rank comes to a place."""
        if place == self._place and self._due:
            self._due = False
            early = self._victims() if PLACES[place][1] <= SHORT_SECONDS else None
            threading.Thread(target=self._kill, args=(early,), daemon=True).start()

    def _kill(self, early: list[int] | None) -> None:
        """Looking for victims takes longer than some places last: of these they are known before."""
        time.sleep(self._delay_seconds)
        victims = self._victims() if early is None else early
        self._stamp.write_text(repr(time.time()))
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _victims(self) -> list[int]:
        own = os.getpid()
        if self._who == RANK:
            return [own]
        parents = dict(_processes(os.environ[MARK]))
        launchers = [pid for pid, parent in parents.items() if parent not in parents]
        return launchers if self._who == LAUNCHER else [*(pid for pid in parents if pid != own), own]


def _processes(mark: str) -> Iterator[tuple[int, int]]:
    """The job's processes and their parents. A strike may come before `admm.supervise` could be imported."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name), int((folder / "stat").read_text().rpartition(")")[2].split()[1])


def plant(strike: Strike) -> None:
    """Make the program tell the strike where it is."""
    from admm import mpi_start, whole_file

    write, library = whole_file._write, mpi_start._library

    def announced(part: Path, data: bytes, mode: int) -> None:
        strike.at(_place_of(part))
        write(part, data, mode)

    whole_file._write = announced
    mpi_start._library = lambda: _Library(library(), strike)


def plant_in_case(strike: Strike) -> None:
    """The same of the agents, whose modules take long to import."""
    from networks.case import Case

    build = Case.build_agent

    def watched(self: Case, name: str, *rest: Any) -> Any:
        strike.at("agents")
        agent = build(self, name, *rest)
        answer = agent.answer

        def answered(question: Any) -> Any:
            if question.iteration > ITERATION:
                strike.at("iteration")
            return answer(question)

        agent.answer = answered
        return agent

    Case.build_agent = watched


def _place_of(part: Path) -> str:
    """What a file is that is being written under another name."""
    name = part.name.split(".part")[0].rpartition(".")[0]
    if "checkpoint" in name:
        return "checkpoint"
    return "private results" if part.parent.name == "private" else name


class _Library:
    """MPI's library, whose start and end are places."""

    def __init__(self, library: Any, strike: Strike) -> None:
        self._library, self._strike = library, strike

    def MPI_Init_thread(self, *arguments: Any) -> int:
        self._strike.at("MPI_Init")
        return self._library.MPI_Init_thread(*arguments)

    def MPI_Finalize(self) -> int:
        self._strike.at("MPI_Finalize")
        return self._library.MPI_Finalize()


def main(arguments: list[str]) -> int:
    place, who, delay_seconds, victim, stamp, *rest = arguments
    from admm.interrupts import listen

    listen()
    if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")) == victim:
        strike = Strike(place, who, float(delay_seconds), Path(stamp))
        strike.at("import")
        plant(strike)
        if place in ("agents", "iteration"):
            plant_in_case(strike)
    from admm.cli import main as command

    return command(rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
