"""What several commands share: ranks, settings, which agents are where, the history."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from admm import (
    InProcessTransport,
    InputError,
    Progress,
    Settings,
    TielineError,
    Transport,
    TransportError,
)
from admm.ending import duty, leave
from admm.errors import say
from admm.folder_lock import LOCK, FolderLock
from admm.history import HistoryWriter
from admm.launch import launched_under_mpi, rank_in_environment
from admm.mpi_start import mpi_world
from admm.output import OutputFolder
from admm.ownership import CHECKPOINTS, HISTORY, SUMMARY
from admm.resume import Checkpoints
from admm.shared_memory import is_any_there, unlink_own
from networks.case import Case

if TYPE_CHECKING:
    from admm.messenger import Communicator

EXIT_NOT_CONVERGED, EXIT_LOST, EXIT_INTERRUPTED = 3, 75, 130


def on_every_rank(given: argparse.Namespace, part: Callable[[argparse.Namespace, Transport], int]) -> int:
    """Run a command's part, alone in this process or as one rank of several; an error is said by rank 0, and in
    full by the rank that may not tell the others all of it."""
    if not launched_under_mpi():
        with ended_by_a_lost_agent():
            return part(given, InProcessTransport(deadline_seconds=given.deadline))
    with mpi_world(given.deadline) as comm:
        from admm.mpi import abort_on_exception

        with abort_on_exception(comm):
            return _on_this_rank(given, part, comm)


def _on_this_rank(
    given: argparse.Namespace, part: Callable[[argparse.Namespace, Transport], int], comm: Communicator
) -> int:
    """Errors are said before the end of MPI: Open MPI kills all ranks as soon as one has ended with one."""
    from admm.mpi import MpiTransport

    alone = comm.Get_size() == 1
    try:
        return part(given, InProcessTransport() if alone else MpiTransport(comm, given.deadline))
    except TielineError as error:
        error.said = comm.Get_rank() != 0 and error.public is None
        if alone or not isinstance(error, TransportError):  # which aborts all ranks, and says so
            with suppress(OSError):
                sys.stdout.flush()
            say(error)
        raise


@contextmanager
def ended_by_a_lost_agent() -> Iterator[None]:
    """End the process where a thread that never comes back would keep it; nothing of it is needed any more."""
    try:
        yield
    except TransportError as error:
        leave(error.exit_code, f"tieline: {error}")


@contextmanager
def lock_for(folder: str | Path, option: str = "--out") -> Iterator[FolderLock]:
    """Lock an output folder, given up however this process ends. `take` it before the first file is written.

    It is taken here already, before anything that takes long, where this process drives and the folder is empty or has
    a result in it. What stands in the way then is said when it is taken for good.
    """
    lock = FolderLock(folder, option)
    with duty(lock.release, lambda: _leave(lock)):
        if rank_in_environment() == 0 and _may_be_a_result(lock.folder):
            with suppress(InputError):
                lock.take()
        yield lock


def _leave(lock: FolderLock) -> None:
    """Give the folder up in the middle of a run; what ranks that were killed have in shared memory may be there still,
    and then the next run in the folder finds out since when."""
    since = lock.began
    if since is None or not launched_under_mpi():
        lock.release()
        return
    unlink_own()
    lock.release(traced=is_any_there(since))


def _may_be_a_result(folder: Path) -> bool:
    with suppress(OSError):
        names = set(os.listdir(folder)) if os.path.lexists(folder) else set()
        ours = names & {SUMMARY, HISTORY, *CHECKPOINTS} or any(name.startswith(LOCK) for name in names)
        return not names or bool(ours)
    return False


def one_process(command: str) -> None:
    if launched_under_mpi():
        raise InputError(f"'{command}' runs in one process: start it without mpirun")


def folder_of(given: argparse.Namespace) -> str:
    return given.resume or given.out or f"results/{plain_name(given.case)}"


def plain_name(case: str) -> str:
    """Turn a case's name into the name of a folder."""
    return Path(case).resolve().name if os.path.isdir(case) else case.replace(":", "-")


def settings_of(given: argparse.Namespace) -> Settings:
    return Settings(
        penalty=given.penalty,
        acceleration=given.acceleration,
        scheme=given.scheme,
        lead=tuple(given.lead),
        staleness=given.staleness,
        max_iterations=given.max_iterations,
        consensus_tolerance=given.tolerance,
        optimality_tolerance=given.optimality_tolerance,
        time_limit_seconds=given.time_limit,
        on_lost_agent=given.on_lost_agent,
    )


def owned_agents(case: Case, transport: Transport, settings: Settings) -> list[str]:
    """Choose the agents of this rank: balanced by solve time, found alike on every rank without a message.

    Leads drive; and so do operators where agents may be late, or one would wait for an agent on its own rank, and where
    a rank may be lost, which can do without agents but not without operators.
    """
    if transport.ranks == 1:
        return list(case.agents)
    from admm.graph import split
    from admm.placement import balance

    sides = split(case.couplings)
    proving, freezes = settings.scheme != "two-block", settings.on_lost_agent == "freeze"
    driving = settings.lead or sides.second if proving or freezes or settings.staleness else ()
    placement = balance(case.solve_weights(), (sides.first, sides.second), transport.ranks, driving)
    return [name for name, rank in placement.items() if rank == transport.rank]


class History:
    """Prepares the output folder at the first iteration: bad input leaves an older result alone. A run that goes on
    begins with the rows that it had."""

    def __init__(self, out: OutputFolder, kept: Checkpoints | None = None, agents: Sequence[str] = ()) -> None:
        self._out, self._kept, self._agents, self._writer = out, kept, agents, None

    def __enter__(self) -> History:
        return self

    def __call__(self, progress: Progress) -> None:
        if self._writer is None:
            former = () if self._kept is None else self._kept.former
            self._out.prepare(keep_checkpoints=bool(former), agents=self._agents)
            self._writer = HistoryWriter(self._out / HISTORY, self._out.run_id)
            for row in former:
                self._writer.append(row)
        self._writer.append(progress)

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
