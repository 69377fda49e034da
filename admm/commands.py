"""What each command of `tieline` does. With `cli`, the only module that knows the other packages."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from admm import (
    InProcessTransport,
    InputError,
    Progress,
    Result,
    Settings,
    Status,
    TielineError,
    Transport,
    TransportError,
    solve,
)
from admm.history import HistoryWriter, write_boundary, write_private
from admm.initial import warm_start
from admm.interrupts import Interrupts
from admm.launch import launched_under_mpi
from admm.output import BOUNDARY, HISTORY, START_FORMAT, OutputFolder, read_former, result_summary, versions
from admm.progress import ProgressPrinter
from admm.resume import Checkpoints, latest_iteration
from admm.supervise import is_supervised, supervise
from admm.transcript import FOLDER as AUDIT
from admm.transcript import Transcript
from admm.words import closing_words
from networks.case import DIGEST_SIZE, SIGNS, Case, CaseAgent, load_case

EXIT_NOT_CONVERGED, EXIT_LOST, EXIT_INTERRUPTED = 3, 75, 130


# ---------------------------------------------------------------------- run


def run(given: argparse.Namespace) -> int:
    """`tieline run`."""
    if given.supervise is not None and not is_supervised():
        return _supervised(given)
    return on_every_rank(given, _run)


def _supervised(given: argparse.Namespace) -> int:
    if launched_under_mpi():
        raise InputError("--supervise: starts the ranks itself; leave out mpirun, and say --launcher 'mpirun -n 4'")
    out = folder_of(given)
    command = [*_launcher_words(given.launcher or ""), sys.executable, "-m", "admm", *given.arguments]
    return supervise(command, ["--resume", out], given.supervise, given.deadline, lambda: latest_iteration(Path(out)))


def _launcher_words(launcher: str) -> list[str]:
    expected = "expected a program and its arguments, such as 'mpirun -n 4'"
    try:
        words = shlex.split(launcher)
    except ValueError as error:
        raise InputError(f"--launcher {launcher!r}: cannot be read ({error}), {expected}") from None
    if words and shutil.which(words[0]) is None:
        raise InputError(f"--launcher {launcher!r}: there is no program '{words[0]}', {expected}")
    return words


def folder_of(given: argparse.Namespace) -> str:
    return given.resume or given.out or f"results/{plain_name(given.case)}"


def on_every_rank(given: argparse.Namespace, part: Callable[[argparse.Namespace, Transport], int]) -> int:
    """A command's part, alone in this process or as one rank of several; an error is said by rank 0 only."""
    if not launched_under_mpi():
        with ended_by_a_lost_agent():
            return part(given, InProcessTransport(deadline_seconds=given.deadline))
    from admm.mpi import MpiTransport, abort_on_exception, world

    comm = world()
    with abort_on_exception(comm):
        try:
            return part(given, MpiTransport(comm, given.deadline) if comm.Get_size() > 1 else InProcessTransport())
        except TielineError as error:
            error.said_elsewhere = comm.Get_rank() != 0
            raise


@contextmanager
def ended_by_a_lost_agent() -> Iterator[None]:
    """A thread that never comes back would keep the process; nothing of it is needed any more."""
    try:
        yield
    except TransportError as error:
        print(f"tieline: {error}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(error.exit_code)


def _run(given: argparse.Namespace, transport: Transport) -> int:
    """One rank's part. However it ends, every rank hands in one report, so none waits for another in vain."""
    driving, report = transport.rank == 0, {}
    out = OutputFolder(folder_of(given), audited=given.audit)
    try:
        case, settings, agents = _prepare(given, transport, out)
        kept = checkpoints_of(case, given, out)
        if driving:
            result = _drive(case, given, settings, agents, transport, out, kept)
        else:
            result = solve(agents, case.couplings, settings, transport, kept)
        report = finish_agents(case, agents, out) if transport.has_result else {}
    except TielineError as error:
        report = {"error": str(error)}
        raise
    finally:
        reports = [json.loads(text) for text in transport.gather_text(json.dumps(report))]
        if transport.transcript is not None:
            transport.transcript.close(transport.has_result)
    if not driving:
        return 0
    code = _conclude(case, given, result, out, reports, len(kept.former))
    transport.end_all(code)
    return code


def checkpoints_of(case: Case, given: argparse.Namespace, out: OutputFolder) -> Checkpoints:
    """Where this rank keeps the state of a run, and what a resumed one must have in common with it."""
    options = ("scheme", "penalty", "acceleration", "lead", "tolerance", "optimality_tolerance", "qp_solver")
    identity = {"case": case.name, "public files": case.public_digest().hex()}
    return Checkpoints(
        out.path,
        identity | {f"--{name.replace('_', '-')}": str(getattr(given, name)) for name in options},
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
    """The run on the driving rank: history and progress go along with it."""
    where = f"{transport.ranks} ranks" if transport.ranks > 1 else "one process"
    print(f"{case.headline()}; penalty {given.penalty}, {where}")
    with History(out, kept) as history, ProgressPrinter() as show, Interrupts() as interrupts:

        def record(progress: Progress) -> Status | None:
            history(progress)
            show(progress)
            return Status.INTERRUPTED if interrupts.asked else None

        return solve(agents, case.couplings, replace(settings, callback=record), transport, kept)


def plain_name(case: str) -> str:
    """A case's name as the name of a folder."""
    return Path(case).resolve().name if os.path.isdir(case) else case.replace(":", "-")


def _prepare(
    given: argparse.Namespace, transport: Transport, out: OutputFolder
) -> tuple[Case, Settings, dict[str, CaseAgent]]:
    """Everything that can be wrong with the input; under MPI a rank's error reaches all ranks."""
    try:
        settings = settings_of(given)
        if transport.rank == 0 or given.audit:
            _check_folders(given, out)
        if given.audit:
            transport.transcript = Transcript(out / AUDIT, transport.rank, transport.ranks, plain_name(given.case))
        case = load_case(given.case)
        if transport.rank == 0:
            settings = _warm(settings, case, given)
        owned = owned_agents(case, transport, settings)
        return case, settings, {name: case.build_agent(name, given.qp_solver) for name in owned}
    except TielineError as error:
        transport.refuse(error)
        raise


def _check_folders(given: argparse.Namespace, out: OutputFolder) -> None:
    if given.resume is not None and given.out not in (None, given.resume):
        raise InputError(f"--resume {given.resume}: a run goes on in its own folder; leave out --out {given.out}")
    out.check()


def settings_of(given: argparse.Namespace) -> Settings:
    return Settings(
        penalty=given.penalty,
        acceleration=given.acceleration,
        scheme=given.scheme,
        lead=tuple(given.lead),
        max_iterations=given.max_iterations,
        consensus_tolerance=given.tolerance,
        optimality_tolerance=given.optimality_tolerance,
        time_limit_seconds=given.time_limit,
        on_lost_agent=given.on_lost_agent,
    )


def _warm(settings: Settings, case: Case, given: argparse.Namespace) -> Settings:
    """The settings with the start that --warm-start asks for, and a line that says which.

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


def owned_agents(case: Case, transport: Transport, settings: Settings) -> list[str]:
    """The agents of this rank: balanced by solve time, found alike on every rank without a message. Leads drive."""
    if transport.ranks == 1:
        return list(case.agents)
    from admm.graph import split
    from admm.placement import balance

    sides = split(case.couplings)
    driving = () if settings.scheme == "two-block" else settings.lead or sides.second
    placement = balance(case.solve_weights(), (sides.first, sides.second), transport.ranks, driving)
    return [name for name, rank in placement.items() if rank == transport.rank]


class History:
    """Prepares the output folder at the first iteration: bad input leaves an older result alone. A run that goes on
    begins with the rows that it had."""

    def __init__(self, out: OutputFolder, kept: Checkpoints | None = None) -> None:
        self._out, self._kept, self._writer = out, kept, None

    def __enter__(self) -> History:
        return self

    def __call__(self, progress: Progress) -> None:
        if self._writer is None:
            former = () if self._kept is None else self._kept.former
            self._out.prepare(keep_checkpoints=bool(former))
            self._writer = HistoryWriter(self._out / HISTORY)
            for row in former:
                self._writer.append(row)
        self._writer.append(progress)

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()


def finish_agents(case: Case, agents: Mapping[str, CaseAgent], out: OutputFolder) -> dict[str, Any]:
    """Write this rank's private results; what is told of them: a digest, the worst violation, checks of flows."""
    from subproblems.reservoir import simultaneous

    facts: dict[str, Any] = {"digest": case.private_digest(agents)}
    facts["violation_pu"] = max((agent.violation() for agent in agents.values()), default=0.0)
    facts["simultaneous_kw"] = facts["below_minimum_kw"] = 0.0
    facts["checks"] = []
    for name, agent in agents.items():
        solution = agent.solution()
        write_private(out.private(name), solution, agent.units(), agent.cost_eur())
        overlaps = simultaneous(solution).values()
        facts["simultaneous_kw"] = max([facts["simultaneous_kw"], *(float(kw.max()) for kw in overlaps)])
        facts["below_minimum_kw"] = max(facts["below_minimum_kw"], case.below_minimum_kw(name, solution))
        facts["checks"] += agent.checks().items()
    return facts


def _conclude(
    case: Case, given: argparse.Namespace, result: Result, out: OutputFolder, facts: list[dict], resumed_after: int
) -> int:
    failed = [fact["error"] for fact in facts if "error" in fact]
    if failed:
        raise InputError(f"a rank could not write its results: {failed[0]}")  # the code with which it ends, too
    write_boundary(out / BOUNDARY, result.boundary, SIGNS)
    summary = run_summary(case, given, result, facts, resumed_after)
    out.complete(summary)
    print(closing_words(result, summary, str(out.path)))
    if result.lost_agents:
        return EXIT_LOST
    if result.status is Status.INTERRUPTED:
        return EXIT_INTERRUPTED
    return 0 if result.converged else EXIT_NOT_CONVERGED


def run_summary(
    case: Case, given: argparse.Namespace, result: Result, facts: Sequence[dict], resumed_after: int = 0
) -> dict[str, Any]:
    """What summary.json says of a coordination run. facts: those of `finish_agents`, of every rank. resumed_after: the
    iteration whose checkpoint it went on from, 0 for none."""
    summary = {
        "case": case.name,
        "case_sha256": case_digest(case, facts),
        **horizon_summary(case),
        "scheme": given.scheme,
        "penalty": given.penalty,
        "acceleration": given.acceleration,
        "warm_start": given.warm_start,
        "resumed_after": resumed_after,
        "lost_agents": ", ".join(result.lost_agents),
        **result_summary(result),
        "ranks": len(facts),
        "agents": len(case.agents),
        "qp_solver": given.qp_solver,
        "max_violation_pu": max(fact["violation_pu"] for fact in facts),
        **_worst_checks(facts),
        "max_simultaneous_kw": max(fact["simultaneous_kw"] for fact in facts),
        "max_below_minimum_kw": max(fact["below_minimum_kw"] for fact in facts),
    }
    return summary | _against_reference(case, summary)


def horizon_summary(case: Case) -> dict[str, Any]:
    return {
        "start_utc": f"{case.horizon.start:{START_FORMAT}}",
        "periods": case.horizon.periods,
        "step_minutes": case.horizon.step_minutes,
    }


CHECKS = ("ac_max_voltage_error_pu", "ac_max_loss_error", "gas_max_pressure_error_bar")


def _worst_checks(facts: Sequence[dict]) -> dict[str, float | None]:
    """The largest error of each kind; None if one of them could not be found."""
    found: dict[str, list[float | None]] = {key: [] for key in CHECKS}
    for key, error in (pair for fact in facts for pair in fact["checks"]):
        found[key].append(error)
    return {key: None if None in errors else max(errors, default=None) for key, errors in found.items()}


def case_digest(case: Case, facts: Sequence[dict]) -> str:
    """SHA-256 over the public files and what the owners tell of the private ones."""
    private = sum(fact["digest"] for fact in facts) % DIGEST_SIZE
    return hashlib.sha256(case.public_digest() + str(private).encode()).hexdigest()


def _against_reference(case: Case, summary: dict[str, Any]) -> dict[str, Any]:
    """The centralised optimum and the distance to it, where one was saved for exactly this case."""
    reference = case.folder.reference().get(case.name)
    if reference is None or reference["case_sha256"] != summary["case_sha256"] or summary["objective_eur"] is None:
        return {"reference_objective_eur": None, "gap_to_reference": None}
    gap = (summary["objective_eur"] - reference["objective_eur"]) / reference["turnover_eur"]
    return {"reference_objective_eur": reference["objective_eur"], "gap_to_reference": gap}


# -------------------------------------------------------------- centralised


def centralised(given: argparse.Namespace) -> int:
    """`tieline centralised`: the same problem as one QP, by Clarabel, with the same flow corrections."""
    from networks.centralised import solve_centralised

    _one_process("centralised")
    case = load_case(given.case)
    out = OutputFolder(given.out or f"results/{plain_name(given.case)}-centralised")
    out.check()
    print(f"{case.name}: one QP of all {len(case.agents)} agents, solved by Clarabel, flows corrected until exact")
    found = solve_centralised(case, report=print)
    summary = {
        "case": case.name,
        "case_sha256": case_digest(case, [{"digest": case.private_digest(case.agents)}]),
        **horizon_summary(case),
        "scheme": "centralised",
        "converged": True,
        "objective_eur": found.solution.objective_eur,
        "turnover_eur": found.solution.turnover_eur,
        "corrections": found.corrections,
        "flow_error": found.flow_error,
        "wall_seconds": found.seconds,
        "versions": versions(),
    }
    out.prepare()
    write_boundary(out / BOUNDARY, found.solution.boundary(), SIGNS)
    out.complete(summary)
    if given.save_reference:
        kept = ("case_sha256", "objective_eur", "turnover_eur")
        case.folder.save_reference(case.name, {key: summary[key] for key in kept})
    solution = found.solution
    print(f"  objective            {solution.objective_eur:.4f} EUR (turnover {solution.turnover_eur:.2f} EUR)")
    print(
        f"  flow corrections     {found.corrections}, flows exact within {found.flow_error:.1e} of what a run corrects"
    )
    print(f"  time                 {found.seconds:.2f} s\n  results              {out.path}/")
    return 0


# ---------------------------------------------------------- check and cases


def check(given: argparse.Namespace) -> int:
    """`tieline check`: reads and builds everything, and lets each agent answer once on its own."""
    from networks.check import check_agents, check_market

    _one_process("check")
    case = load_case(given.case)
    check_market(case)
    for line in check_agents(case):
        print(line)
    print(f"{case.name}: everything is valid, and every agent is feasible on its own")
    return 0


def cases(given: argparse.Namespace) -> int:
    """`tieline cases`: the bundled cases and their variants, a line each."""
    from networks.case_file import bundled_names, open_case

    for name in bundled_names():
        folder = open_case(name)
        print(f"{name:28} {folder.table.title}")
        for variant in folder.table.variant:
            full = f"{name}:{variant}"
            horizon = open_case(full).horizon
            print(f"{full:28} from {horizon.start:%Y-%m-%d %H:%MZ}, {horizon.periods} x {horizon.step_minutes} min")
    return 0


def audit(given: argparse.Namespace) -> int:
    """`tieline audit`: what left each agent, from the transcript of a run."""
    from admm.audit import audit_words

    print(audit_words(given.folder))
    return 0


def _one_process(command: str) -> None:
    if launched_under_mpi():
        raise InputError(f"'{command}' runs in one process: start it without mpirun")


def market(given: argparse.Namespace) -> int:
    """`tieline market`: see `admm.market_command`."""
    from admm.market_command import market as run_market

    return run_market(given)
