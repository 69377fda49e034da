"""`tieline run`: one case, alone, on ranks, or launched again and again under supervision."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from admm import (
    InfeasibleError,
    InputError,
    OutputError,
    Progress,
    Result,
    Settings,
    Status,
    TielineError,
    Transport,
    TransportError,
    solve,
)
from admm.commands.checks import checks_passed
from admm.commands.common import (
    EXIT_INTERRUPTED,
    EXIT_LOST,
    EXIT_NOT_CONVERGED,
    History,
    folder_of,
    lock_for,
    on_every_rank,
    owned_agents,
    plain_name,
    settings_of,
)
from admm.commands.summary import finish_agents, run_summary
from admm.errors import public_words, write_line
from admm.folder_lock import LENT, FolderLock
from admm.history import write_boundary
from admm.initial import warm_start
from admm.interrupts import ENDS, Interrupts
from admm.launch import launched_under_mpi
from admm.output import BOUNDARY, SUMMARY, OutputFolder, read_former, run_id_of, versions
from admm.progress import ProgressPrinter
from admm.resume import CHECKPOINT, Checkpoints, latest_iteration
from admm.shared_memory import remove_left_by
from admm.supervise import is_supervised, supervise
from admm.transcript import FOLDER as AUDIT
from admm.transcript import Transcript
from admm.whole_file import mark_of
from admm.words import closing_words
from networks.case import SIGNS, Case, CaseAgent, load_case
from subproblems.conflict import in_numbers, say_own_conflict

LAUNCHER_EXPECTED = "expected a program and its arguments, such as 'mpirun -n 4', that starts what stands after them"


def command(given: argparse.Namespace) -> int:
    """Run `tieline run`."""
    if given.supervise is not None and not is_supervised():
        return _supervised(given)
    with lock_for(folder_of(given), _option(given)) as lock:
        return on_every_rank(given, lambda given, transport: _run(given, transport, lock))


def _option(given: argparse.Namespace) -> str:
    """Name the option that names the output folder."""
    return "--out" if given.resume is None else "--resume"


def _supervised(given: argparse.Namespace) -> int:
    if launched_under_mpi():
        raise InputError("--supervise: starts the ranks itself; leave out mpirun, and say --launcher 'mpirun -n 4'")
    if given.on_lost_agent == "freeze":
        raise InputError("--supervise launches again what is lost, --on-lost-agent freeze goes on without: choose one")
    command = [*_launcher_words(given.launcher or ""), sys.executable, "-m", "admm", *given.arguments]
    with lock_for(folder_of(given), _option(given)) as lock:
        OutputFolder(folder_of(given), option=_option(given)).check()
        lock.take()
        remove_left_by(lock.former)
        return _launches(given, command, lock)


def _launches(given: argparse.Namespace, command: list[str], lock: FolderLock) -> int:
    """All of them, in a folder that is locked between them, too."""
    out = folder_of(given)
    saved, summary = Path(out) / CHECKPOINT, Path(out) / SUMMARY
    older, former = None if given.resume else mark_of(saved), mark_of(summary)

    def iteration() -> int:
        """Read the latest iteration of this run: what an older one has saved is there until this one's first."""
        return 0 if older is not None and mark_of(saved) == older else latest_iteration(Path(out))

    lent = {LENT: lock.token}
    code = supervise(command, ["--resume", out], given.supervise, given.deadline, iteration, lent)
    if code == 0 and mark_of(summary) == former:
        raise InputError(
            f"--launcher {given.launcher!r}: has ended with exit code 0, but {out} has no new result here; "
            f"{LAUNCHER_EXPECTED}, rank 0 where this machine sees the folder"
        )
    return code


def _launcher_words(launcher: str) -> list[str]:
    try:
        words = shlex.split(launcher)
    except ValueError as error:
        raise InputError(f"--launcher {launcher!r}: cannot be read ({error}), {LAUNCHER_EXPECTED}") from None
    if words and shutil.which(words[0]) is None:
        raise InputError(f"--launcher {launcher!r}: there is no program '{words[0]}', {LAUNCHER_EXPECTED}")
    return words


def _run(given: argparse.Namespace, transport: Transport, lock: FolderLock) -> int:
    """Do one rank's part. However it ends, every rank hands in one report, so none waits for another in vain."""
    out = OutputFolder(folder_of(given), audited=given.audit, option=_option(given))
    try:
        case, kept, result, report = _coordinate(given, transport, out, lock)
        reports = _hand_in(transport, report)
    finally:
        if transport.transcript is not None:
            transport.transcript.close(transport.has_result)
    if transport.rank != 0:
        return 0
    lock.check_held()
    code = _conclude(case, given, result, out, reports, len(kept.former))
    transport.end_all(code)
    return code


def _coordinate(
    given: argparse.Namespace, transport: Transport, out: OutputFolder, lock: FolderLock
) -> tuple[Case, Checkpoints, Result | None, dict[str, Any]]:
    """Make the run, and this rank's report of it; the result is rank 0's."""
    agents: Mapping[str, CaseAgent] = {}
    try:
        case, settings, agents = _prepare(given, transport, out, lock)
        kept = checkpoints_of(case, given, out)
        if transport.rank == 0:
            result = _drive(case, given, settings, agents, transport, out, kept)
        else:
            with Interrupts(begun=False, quiet=True) as transport.interrupts:
                result = solve(agents, case.couplings, settings, transport, kept)
            if not transport.has_result:
                say_own_conflict(agents)
        out.run_id = transport.run_id
        return case, kept, result, finish_agents(case, agents, out) if transport.has_result else {}
    except TielineError as error:
        with suppress(TransportError):  # what ended the run is what counts
            _hand_in(transport, {"error": public_words(error)})
        if isinstance(error, InfeasibleError):
            raise in_numbers(error, agents) from None
        raise


def _hand_in(transport: Transport, report: dict[str, Any]) -> list[dict[str, Any]]:
    """Gather every rank's report on rank 0."""
    return [json.loads(text) for text in transport.gather_text(json.dumps(report))]


def identity_of(case: Case, given: argparse.Namespace) -> dict[str, str]:
    """Say what two launches of one run have in common."""
    options = (
        "scheme",
        "penalty",
        "acceleration",
        "lead",
        "staleness",
        "tolerance",
        "optimality_tolerance",
        "qp_solver",
    )
    identity = {"case": case.name, "public files": case.public_digest().hex()}
    return identity | {f"--{name.replace('_', '-')}": str(getattr(given, name)) for name in options}


def checkpoints_of(case: Case, given: argparse.Namespace, out: OutputFolder) -> Checkpoints:
    """Say where this rank keeps the state of a run, and what a resumed one must have in common with it."""
    return Checkpoints(
        out.path,
        identity_of(case, given),
        every_seconds=given.checkpoint_every,
        resume=given.resume is not None,
        versions=versions(),
        agent_identity=lambda name: f"{case.private_digest([name]):x}",
        say=print,
    )


def _drive(
    case: Case,
    given: argparse.Namespace,
    settings: Settings,
    agents: Mapping[str, CaseAgent],
    transport: Transport,
    out: OutputFolder,
    kept: Checkpoints,
) -> Result:
    """Make the run on the driving rank: history and progress go along with it."""
    where = f"{transport.ranks} ranks" if transport.ranks > 1 else "one process"
    print(f"{case.headline()}; penalty {given.penalty}, {where}", *case.notes, sep="\n  ")
    with (
        History(out, kept, list(case.agents)) as history,
        ProgressPrinter() as show,
        Interrupts(begun=False) as interrupts,
    ):

        def record(progress: Progress) -> Status | None:
            history(progress)
            show(progress)
            interrupts.begun = True
            if transport.stopped_by is not None and not interrupts.asked:
                write_line(f"tieline: rank {transport.stopped_by} was told to stop: {ENDS}")
            return Status.INTERRUPTED if interrupts.asked or transport.stopped_by is not None else None

        return solve(agents, case.couplings, replace(settings, callback=record), transport, kept)


def _prepare(
    given: argparse.Namespace, transport: Transport, out: OutputFolder, lock: FolderLock
) -> tuple[Case, Settings, dict[str, CaseAgent]]:
    """Find everything that can be wrong with the input; under MPI a rank's error reaches all ranks."""
    try:
        settings = settings_of(given)
        if transport.rank == 0 or given.audit:
            _check_options(given, out)
        if given.audit:
            if transport.rank == 0:
                lock.take()
            goes_on = given.resume is not None or is_supervised()
            headline = plain_name(given.case)
            transport.transcript = Transcript(out / AUDIT, transport.rank, transport.ranks, headline, goes_on=goes_on)
        case = load_case(given.case)
        if transport.rank == 0:
            lock.take()
            remove_left_by(lock.former)
            out.tidy()
            transport.run_id = out.run_id = _run_id(case, given, out)
            settings = _warm(settings, case, given)
        owned = owned_agents(case, transport, settings)
        return case, settings, {name: case.build_agent(name, given.qp_solver) for name in owned}
    except TielineError as error:
        transport.refuse(error)
        raise


def _run_id(case: Case, given: argparse.Namespace, out: OutputFolder) -> str:
    """Return the id of this run; one that goes on keeps its id."""
    kept = out.run_id_to_go_on_with() if given.resume is not None else ""
    return kept or run_id_of(identity_of(case, given), out.former_run_id())


def _check_options(given: argparse.Namespace, out: OutputFolder) -> None:
    """Refuse options that contradict or want each other, and folders that are of no use."""
    if given.launcher is not None and given.supervise is None:
        raise InputError(
            f"--launcher {given.launcher!r}: is of --supervise; add --supervise N, "
            "or start the ranks yourself: mpirun -n 4 tieline run CASE"
        )
    if given.resume is not None and given.out not in (None, given.resume):
        raise InputError(f"--resume {given.resume}: a run goes on in its own folder; leave out --out {given.out}")
    out.check()


def _warm(settings: Settings, case: Case, given: argparse.Namespace) -> Settings:
    """Return the settings with the start that --warm-start asks for, and print a line that says which.

    Former penalties are taken over if their scheme and policy are those that are asked for now.
    """
    if given.warm_start is None:
        if given.shift is not None:
            raise InputError(f"--shift {given.shift}: is for a warm start; add --warm-start DIR")
        return settings
    former = read_former(given.warm_start)
    former.check_step(case.horizon.step_minutes)
    shift = former.shift_to(case.horizon.start) if given.shift is None else given.shift
    start = warm_start(former.boundary, case.couplings, shift, former.periods_per_day)
    if (former.scheme, former.penalty) != (given.scheme, given.penalty):
        start = replace(start, penalty={})
    words = [f"warm start from {former.path}, shifted by {shift} periods"]
    words += [f"new: {', '.join(start.added)}"] if start.added else []
    words += [f"left out: {', '.join(start.dropped)}"] if start.dropped else []
    print("; ".join(words))
    return start.applied_to(settings)


def _conclude(
    case: Case, given: argparse.Namespace, result: Result, out: OutputFolder, facts: list[dict], resumed_after: int
) -> int:
    failed = [fact["error"] for fact in facts if "error" in fact]
    if failed:
        raise OutputError(f"a rank could not write its results: {failed[0]}")  # the code with which it ends, too
    write_boundary(out / BOUNDARY, result.boundary, SIGNS, case.horizon.time_utc(), run_id=out.run_id)
    summary = run_summary(case, given, result, facts, resumed_after)
    out.complete(summary)
    print(closing_words(result, summary, str(out.path)))
    if result.lost_agents:
        return EXIT_LOST
    if result.status is Status.INTERRUPTED:
        return EXIT_INTERRUPTED
    return 0 if result.agreed and checks_passed(summary) else EXIT_NOT_CONVERGED
