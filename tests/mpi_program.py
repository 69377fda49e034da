"""Run under mpirun by test_mpi: solves small problems on all ranks and prints what came out as JSON.

mpirun -n N python tests/mpi_program.py PART
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import admm
from admm.graph import split
from admm.mpi import MpiTransport, abort_on_exception, world
from admm.placement import balance
from admm.resume import Checkpoints
from admm.transcript import Transcript
from tests.batches import BATCHES, plain, run_of
from tests.small_problems import PROBLEMS, Parabola, Problem, coupling, pair, star

MARK = "RESULT "
DEADLINE_SECONDS = 20.0
SHORT_DEADLINE_SECONDS = 1.5
SLEEP_SECONDS = 0.3
SLOW_SECONDS = 0.05
INTERRUPT_AFTER = 5
SLEEPERS = 3
LED = {"optimality_tolerance": 1e-5, "consensus_tolerance": 1e-5, "final_accuracy": 1e-6, "max_iterations": 120}
"""Settings of a run that leads and ends with a proof."""

SHARED = ("", "Stück für 5 €", "x" * 200_000)
"""Texts of any length; the last is too long for MPI to send before it is asked for."""

comm = world()


def report(found: object) -> None:
    """One line of JSON a rank; solvers may write lines of their own to the same output."""
    sys.stdout.write(MARK + json.dumps({"rank": comm.rank, "found": found}) + "\n")  # in one piece: ranks share a pipe
    sys.stdout.flush()


def solve(
    problem: Problem,
    placement: dict[str, int],
    deadline: float = DEADLINE_SECONDS,
    transcript: Transcript | None = None,
    kept: Checkpoints | None = None,
    **changes: object,
):
    """Solve with each agent on its rank: the result (on rank 0), the own agents, all ranks' words after it, and the
    transport."""
    comm.Barrier()  # ranks take their time to start
    transport = MpiTransport(comm, deadline_seconds=deadline, transcript=transcript)
    own = {name: make() for name, make in problem.agents.items() if placement.get(name) == comm.rank}
    settings = admm.Settings(**{**problem.settings, **changes})
    try:
        result = admm.solve(own, problem.couplings, settings, transport, kept)
    finally:
        words = transport.gather_text(f"rank {comm.rank}")
    return result, own, words, transport


def placed(problem: Problem) -> dict[str, int]:
    sides = split(problem.couplings)
    ranks = min(comm.size, len(problem.agents) + 1)
    return balance(dict.fromkeys(problem.agents, 1.0), (sides.first, sides.second), ranks)


def numbers(result: admm.Result) -> dict:
    """What has to be the same however many ranks there are."""
    boundary = {
        f"{name} {key}": getattr(quantities["p_mw"], key).tolist()
        for name, quantities in result.boundary.items()
        for key in ("lower", "upper", "price")
    }
    history = [[p.residuals.primal, p.residuals.dual, p.penalty, p.objective_eur] for p in result.history]
    found = {"status": result.status.name, "objective": result.objective, "schedule": list(result.schedule_cost)}
    return {**found, "boundary": boundary, "history": history}


def ends(text: str) -> tuple[int, str]:
    """Enough of a text to know it by: lines of reports have to stay short."""
    return len(text), text[-30:]


def problems() -> None:
    """Every small problem after the other on one communicator."""
    for name, make in PROBLEMS.items():
        problem = make()
        result, own, words, transport = solve(problem, placed(problem))
        found = {
            "words": words,
            "shared": [ends(transport.share_text(f"{text} of rank {comm.rank}")) for text in SHARED],
            "problem": name,
            "owned": list(own),
            "solved": [n for n, a in own.items() if len(a.solution())],
        }
        if comm.rank == 0:
            found.update(numbers(result), bytes=result.bytes_exchanged, solutions=list(result.solutions))
        else:
            assert result is None
        report(found)


def apart() -> None:
    """Before a run nobody waits for anybody: each rank has its own text only."""
    transport = MpiTransport(comm, SHORT_DEADLINE_SECONDS)
    report([transport.share_text(f"rank {comm.rank}"), transport.gather_text(f"rank {comm.rank}")])


def batches() -> None:
    """Several questions to an agent in one message, one of them infeasible."""
    placement, transport = placed(star()), MpiTransport(comm, DEADLINE_SECONDS)
    run = run_of(transport, {name: make() for name, make in star().agents.items() if placement[name] == comm.rank})
    if comm.rank != 0:
        transport.serve()
        return
    report(plain(run.ask_batches(BATCHES, "agents", check=False)))
    transport.finish(has_result=False)


class Raises(Parabola):
    """Raises an error, in `prepare` or at its second question."""

    def __init__(self, error: Exception, early: bool = False) -> None:
        super().__init__(6.0, [1.0, 5.0])
        self.error, self.early = error, early

    def prepare(self, boundary: admm.AgentBoundary) -> None:
        super().prepare(boundary)
        if self.early:
            raise self.error

    def answer(self, question: admm.Question) -> admm.Answer:
        if question.iteration == 2:
            raise self.error
        return super().answer(question)


class Infeasible(Parabola):
    """Has no answer."""

    def answer(self, question: admm.Question) -> admm.Answer:
        return admm.Answer(np.empty(0), admm.AnswerStatus.INFEASIBLE, "the battery's limits contradict each other")


class NotANumber(Parabola):
    """Answers NaN."""

    def answer(self, question: admm.Question) -> admm.Answer:
        return admm.Answer(np.full(2, np.nan))


def _with_up(make: Callable[[], admm.Agent]) -> Problem:
    problem = pair()
    problem.agents["up"] = make
    return problem


def failures() -> None:
    """One failing run after the other, and after all of them one that works: nothing may be left behind."""
    apart, others = {"low": 0, "up": 1}, pair()
    if comm.rank == 1:
        others.couplings[0] = coupling("low-up", "low", "up", periods=2, scale=3.0)
    broken = pair()
    if comm.rank == 1:
        broken.couplings.append(broken.couplings[0])
    cases = {
        "prepare": (_with_up(lambda: Raises(admm.InputError("up: no profile"), early=True)), apart),
        "prepare_bug": (_with_up(lambda: Raises(KeyError("bus"), early=True)), apart),
        "input": (_with_up(lambda: Raises(admm.InputError("up: a bad question"))), apart),
        "solver": (_with_up(lambda: Raises(admm.SolverError("up: stuck"))), apart),
        "bug": (_with_up(lambda: Raises(ZeroDivisionError("by zero"))), apart),
        "infeasible": (_with_up(lambda: Infeasible(6.0, [1.0, 5.0])), apart),
        "not_a_number": (_with_up(lambda: NotANumber(6.0, [1.0, 5.0])), apart),
        "driver_agent": (_with_up(lambda: Raises(admm.InputError("up: on rank 0"))), {"low": 1, "up": 0}),
        "missing": (pair(), {"low": 0}),
        "duplicate": (pair(), {"low": 0, "up": comm.rank}),
        "other_couplings": (others, apart),
        "bad_couplings_on_one_rank": (broken, apart),
        "works": (pair(), apart),
    }
    found = {}
    for name, (problem, placement) in cases.items():
        try:
            result, *_ = solve(problem, placement)
            found[name] = ["" if result is None else result.status.name, ""]
        except Exception as error:
            found[name] = [type(error).__name__, str(error)]
    report(found)


def parallel() -> None:
    """Sleeping agents on ranks of their own sleep at the same time; the one on rank 0 wakes first."""
    names = [f"sleeper{i}" for i in range(SLEEPERS)]
    agents = {name: lambda: Parabola(2.0, [3.0], SLEEP_SECONDS) for name in names}
    agents[names[0]] = lambda: Parabola(2.0, [3.0], SLEEP_SECONDS / 5)
    agents["hub"] = lambda: Parabola(6.0, [1.0] * SLEEPERS)
    problem = Problem(agents, [coupling(f"{n}-hub", n, "hub") for n in names], {"max_iterations": 3}, 0.0)
    result, *_ = solve(problem, {**{name: i for i, name in enumerate(names)}, "hub": 0})
    if result is not None:
        timing = result.timing
        report({"agents": timing.agents, "waiting": timing.waiting, "wall": timing.wall, "each": result.solve_seconds})


class Hangs(Parabola):
    """Does not come back from its second question."""

    def answer(self, question: admm.Question) -> admm.Answer:
        if question.iteration == 2:
            time.sleep(3600)
        return super().answer(question)


def hang() -> None:
    """An agent on another rank hangs: rank 0 gives up at the deadline."""
    problem = _with_up(lambda: Hangs(6.0, [1.0, 5.0]))
    solve(problem, {"low": 0, "up": comm.size - 1}, deadline=SHORT_DEADLINE_SECONDS if comm.rank == 0 else 3600.0)


def hang_among_others() -> None:
    """An agent hangs, those on two more ranks do not; rank 0 writes its messages down in the folder given."""
    transcript = Transcript(sys.argv[2], comm.rank, comm.size)
    deadline = SHORT_DEADLINE_SECONDS if comm.rank == 0 else 3600.0
    solve(slow_star(hangs=True), {"s": 0, "a": 1, "b": 2, "c": 3}, deadline, transcript)


def silence() -> None:
    """An agent on rank 0 hangs: the others give up at the deadline."""
    problem = _with_up(lambda: Hangs(6.0, [1.0, 5.0]))
    solve(problem, {"low": 1, "up": 0}, deadline=SHORT_DEADLINE_SECONDS if comm.rank else 3600.0)


def crash() -> None:
    """An agent on another rank has a bug: its traceback is shown by its owner only."""
    solve(_with_up(lambda: Raises(ZeroDivisionError("by zero"))), {"low": 0, "up": 1})


def crash_at_home() -> None:
    """As `crash`, of an agent on rank 0."""
    solve(_with_up(lambda: Raises(ZeroDivisionError("by zero"))), {"low": 1, "up": 0})


def crash_early() -> None:
    """As `crash`, before the first iteration."""
    solve(_with_up(lambda: Raises(ZeroDivisionError("by zero"), early=True)), {"low": 0, "up": 1})


def led(scheme: str) -> None:
    """The star led by its supplier, on rank 0 and then on the other one, which is refused."""
    found = []
    result, *_ = solve(star(), {"s": 0, "a": 1, "b": 0, "c": 1}, scheme=scheme, **LED)
    found += ["", ""] if result is None else [result.status.name, [result.objective, result.certified_gap]]
    try:
        solve(star(), {"s": 1, "a": 0, "b": 0, "c": 1}, scheme=scheme, lead=("s",), **LED)
        found.append("")
    except admm.InputError as error:
        found.append(str(error))
    report(found)


def led_memory() -> None:
    led("memory")


def led_certified() -> None:
    led("certified")


class Slow:
    """Another agent that takes its time, and can fail at its fourth question or not come back from it."""

    def __init__(self, agent: admm.Agent, error: Exception | None = None, hangs: bool = False) -> None:
        self._agent, self._error, self._hangs, self.given = agent, error, hangs, 0
        self.prepare, self.solution = agent.prepare, agent.solution

    def answer(self, question: admm.Question) -> admm.Answer:
        self.given += 1
        time.sleep(3600 if self._hangs and self.given == 4 else SLOW_SECONDS)
        if self._error is not None and self.given == 4:
            raise self._error
        return self._agent.answer(question)


def slow_star(**slow: object) -> Problem:
    problem = star()
    consumer = problem.agents["a"]
    problem.agents["a"] = lambda: Slow(consumer(), **slow)
    return problem


def late() -> None:
    """An agent that lags, with the operator on another rank and on its own, and one that fails while it lags."""
    apart, found = {"s": 0, "a": 1, "b": 0, "c": 2}, {}
    for name, placement in {"operator drives": apart, "operator behind the slow agent": {**apart, "s": 1}}.items():
        result, own, words, _ = solve(slow_star(), placement, staleness=4)
        given = comm.allreduce(sum(agent.given for agent in own.values() if isinstance(agent, Slow)))
        assert comm.rank or words == [f"rank {i}" for i in range(comm.size)]
        found[name] = None if result is None else [result.status.name, result.objective, result.iterations, given]
    try:
        solve(slow_star(error=admm.SolverError("slow: stuck")), apart, staleness=4)
    except admm.SolverError as error:
        found["error"] = [type(error).__name__, str(error)]
    result, *_ = solve(star(), apart, staleness=4)
    if result is not None and result.converged:
        report(found)


def late_audited() -> None:
    """A run with a late agent; each rank writes all its messages down in the folder given, and saves its state."""
    transcript = Transcript(Path(sys.argv[2]) / "audit", comm.rank, comm.size)
    kept = Checkpoints(sys.argv[2], every_seconds=2 * SLOW_SECONDS)
    apart = {"s": 0, "a": 1, "b": 0, "c": 2}
    result, *_ = solve(slow_star(), apart, transcript=transcript, kept=kept, staleness=4)
    report(None if result is None else [result.status.name, result.bytes_exchanged])


def late_hang() -> None:
    """A late agent hangs: rank 0, which is not held up by it at first, gives up at the deadline."""
    solve(slow_star(hangs=True), {"s": 0, "a": 1, "b": 0, "c": 2}, SHORT_DEADLINE_SECONDS, staleness=50)


def late_interrupt() -> None:
    """Runs with a late agent until it is interrupted; says on each rank which process to interrupt, and when."""
    report(os.getpid())

    def ready(progress: admm.Progress) -> None:
        if progress.iteration == INTERRUPT_AFTER:
            report(None)

    slow = {"penalty": "classical:1e-6", "acceleration": "none", "max_iterations": 10**6, "staleness": 50}
    slow["callback"] = ready
    result, *_ = solve(slow_star(), {"s": 0, "a": 1, "b": 0, "c": 2}, **slow)
    report(None if result is None else [result.status.name, len(result.history) == result.iterations])


def infeasible() -> None:
    """The exit code of the job when an agent of another rank is infeasible."""
    problem = star()
    problem.agents["a"] = lambda: Infeasible(2.0, [1.0])
    try:
        solve(problem, {"s": 0, "a": 1, "b": 0, "c": 1})
    except admm.InfeasibleError as error:
        sys.exit(error.exit_code)


def interrupt() -> None:
    """Runs until it is interrupted, and says on each rank which process to interrupt."""
    problem = pair()
    problem.agents["up"] = lambda: Parabola(6.0, [1.0, 5.0], seconds=0.01)
    report(os.getpid())
    slow = {"penalty": "classical:1e-6", "acceleration": "none", "max_iterations": 10**6}
    result, *_ = solve(problem, {"low": 0, "up": 1}, **slow)
    report(None if result is None else [result.status.name, len(result.history) == result.iterations])


if __name__ == "__main__":
    with abort_on_exception(comm):
        parts = (
            problems,
            apart,
            batches,
            failures,
            parallel,
            hang,
            hang_among_others,
            silence,
            crash,
            crash_at_home,
            crash_early,
            infeasible,
            interrupt,
        )
        parts += (led_memory, led_certified, late, late_audited, late_hang, late_interrupt)
        {part.__name__: part for part in parts}[sys.argv[1]]()
