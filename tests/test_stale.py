"""Bounded staleness: the same optimum with late answers, the same bits without, and nothing that goes on unseen."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import admm
from admm.acceleration import Anderson, Point
from admm.cli import build_parser
from admm.commands.common import owned_agents, settings_of
from admm.couplings import Layout
from admm.graph import split
from admm.run import Run
from admm.stale import Patience, Stale
from admm.two_block import TwoBlock
from networks.case import load_case
from tests.case_tools import BUNDLED_CASE as CASE
from tests.case_tools import tieline
from tests.delayed import Delayed
from tests.planted import FAMILIES
from tests.small_problems import PROBLEMS, Parabola, Problem, coupling, star
from tests.tolerances import EXACT, OF_TURNOVER, SOLVER

PRICE = 1e-5
MOST_LATE = 4
EXAMPLES = 12
SLOW_SECONDS, GIVE_UP_SECONDS = 0.02, 15.0
MPI_PROGRAM, MARK = str(Path(__file__).with_name("mpi_program.py")), "RESULT "
NAMES = ("slow", "quick1", "quick2")


@contextmanager
def impatient() -> Iterator[None]:
    """No answer is waited for but those that would get too old."""
    with patch.object(Patience, "FACTOR", 0.0), patch.object(Stale, "QUORUM", 0.0):
        yield


def delayed_run(problem: Problem, staleness: int, transport: Delayed, **changes: object) -> admm.Result:
    agents = {name: make() for name, make in problem.agents.items()}
    with impatient():
        chosen = admm.Settings(**{**problem.settings, "staleness": staleness, **changes})
        return admm.solve(agents, problem.couplings, chosen, transport)


# -------------------------------------------------------------- what comes out


@pytest.mark.parametrize("penalty", ["adaptive", "classical:0.3", "spectral"])
@pytest.mark.parametrize("acceleration", ["anderson", "relaxation"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_without_late_answers_it_is_the_loop_to_the_last_bit(name: str, acceleration: str, penalty: str) -> None:
    changes = {"penalty": penalty, "acceleration": acceleration, "max_iterations": 60}
    one, two = PROBLEMS[name]().solve(**changes), delayed_run(PROBLEMS[name](), 3, Delayed(0, 0), **changes)
    assert two.status is one.status and two.objective == one.objective
    assert [p.residuals for p in two.history] == [p.residuals for p in one.history]
    assert [p.penalty for p in two.history] == [p.penalty for p in one.history]
    for coupling_name, quantities in one.boundary.items():
        other = two.boundary[coupling_name]["p_mw"]
        for key in ("lower", "upper", "price", "penalty"):
            assert np.array_equal(getattr(quantities["p_mw"], key), getattr(other, key))


class NeverPosts(admm.InProcessTransport):
    """Has no way to answer late."""

    post = collect = None


def test_staleness_0_never_asks_without_waiting() -> None:
    problem = star()
    agents = {name: make() for name, make in problem.agents.items()}
    result = admm.solve(agents, problem.couplings, admm.Settings(**problem.settings), NeverPosts())
    assert result.converged and [p.residuals for p in result.history] == [p.residuals for p in star().solve().history]


def exchanges(problem: Problem, staleness: int, transport: admm.Transport, count: int, **changes: object) -> Run:
    """The loop after so many iterations."""
    sides = split(problem.couplings)
    layout = Layout(sides.couplings)
    owned = {name: make() for name, make in problem.agents.items()}
    transport.start(owned, {name: layout.boundary(name) for name in layout.agents})
    chosen = admm.Settings(**{**problem.settings, "staleness": staleness, **changes})
    run = (Stale if staleness else TwoBlock)(layout, sides, chosen, transport, owned)
    for _ in range(count):
        run.iterate()
    return run


@pytest.mark.parametrize("acceleration", ["anderson", "relaxation"])
@pytest.mark.parametrize("count", [5, 8, 14])
def test_late_answers_make_one_synchronous_iteration_from_the_points_answered(count: int, acceleration: str) -> None:
    """Also while the penalty changes: each agent's price, reference and penalty are those of its own question."""
    problem, transport = star_of_parabolas(), Delayed(count, MOST_LATE)
    with impatient():
        late = exchanges(problem, MOST_LATE, transport, count, acceleration=acceleration, penalty="adaptive:3")
    assert transport.ages[-1] > 0 or late.under_way
    at = {key: {} for key in ("second", "price", "penalty")}
    for block in late.layout.blocks:
        for key, found in at.items():
            found[block.coupling.name] = {block.quantity.name: getattr(late.answered, key)[block.entries]}
    start = {
        f"initial_{name}": at[key] for name, key in (("values", "second"), ("price", "price"), ("penalty", "penalty"))
    }
    once = exchanges(problem, 0, admm.InProcessTransport(), 1, acceleration=acceleration, penalty="adaptive:3", **start)
    for key in ("lower", "upper", "price", "penalty"):
        assert np.array_equal(getattr(late.state, key), getattr(once.state, key)), key
    assert late.history[-1].residuals == once.history[-1].residuals


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    staleness=st.integers(1, MOST_LATE),
    name=st.sampled_from(sorted(PROBLEMS)),
    acceleration=st.sampled_from(["anderson", "none"]),
)
def test_random_delays_lead_to_the_optimum_found_by_hand(
    seed: int, staleness: int, name: str, acceleration: str
) -> None:
    problem, transport = PROBLEMS[name](), Delayed(seed, MOST_LATE)
    result = delayed_run(problem, staleness, transport, acceleration=acceleration)
    assert result.converged, result.status
    assert 0 < max(transport.ages) <= staleness
    assert result.objective == pytest.approx(problem.objective, rel=SOLVER)
    for coupling_name, price in problem.price.items():
        assert result.boundary[coupling_name]["p_mw"].price == pytest.approx(price, abs=PRICE)
        assert result.boundary[coupling_name]["p_mw"].mismatch.max() <= problem.settings["consensus_tolerance"]


@pytest.mark.parametrize("family", FAMILIES)
def test_random_programs_with_one_agent_that_is_always_late(family: str) -> None:
    for seed in range(2):
        problem, transport = FAMILIES[family](seed), Delayed(seed, 2, who=["a"], always=True)
        with impatient():
            result = admm.solve(problem.agents(), problem.couplings, admm.Settings(staleness=2), transport)
        assert result.converged and result.residuals.passed(admm.Settings())
        assert abs(result.objective - problem.optimum_eur) <= OF_TURNOVER * problem.turnover_eur


class OnePenalty(Anderson):
    """Fails where steps that were made at different penalties would be mixed."""

    def forget(self) -> None:
        super().forget()
        self.penalty: np.ndarray | None = None

    def next_start(self, before: Point, after: Point, penalty: np.ndarray) -> Point:
        assert self.penalty is None or np.array_equal(self.penalty, penalty)
        self.penalty = penalty.copy()
        return super().next_start(before, after, penalty)


def test_steps_at_different_penalties_are_never_mixed() -> None:
    for seed in range(4):
        run = delayed_run(star(), 3, Delayed(seed, 3), acceleration=OnePenalty(), penalty="adaptive:9")
        assert run.converged and len({p.penalty for p in run.history}) > 2


# -------------------------------------------------------------- how it ends


def star_of_parabolas(slow: type[Parabola] = Parabola, **slow_ones: object) -> Problem:
    """Three that want 3 at a hub that wants 1 for each of them; answers are what `solution` says."""
    agents = {name: lambda: Parabola(2.0, [3.0]) for name in NAMES}
    agents |= {"slow": lambda: slow(2.0, [3.0], **slow_ones), "hub": lambda: Parabola(6.0, [1.0] * 3)}
    limits = {"penalty": "classical:0.01", "acceleration": "none", "max_iterations": 400}
    return Problem(agents, [coupling(f"{name}-hub", name, "hub") for name in NAMES], limits, 0.0)


def is_behind(result: admm.Result) -> bool:
    """Whether agents' own schedules are those of the result's boundary."""
    return all(result.boundary[f"{n}-hub"]["p_mw"].lower == result.solutions[n] for n in NAMES)


@pytest.mark.parametrize("ended_by", ["convergence", "iterations", "time", "callback"])
def test_however_a_run_ends_agents_schedules_are_those_behind_the_result(ended_by: str) -> None:
    ends = {
        "convergence": {"penalty": "classical", "max_iterations": 400},
        "iterations": {"max_iterations": 9},
        "time": {"time_limit_seconds": EXACT},
        "callback": {"callback": lambda progress: progress.iteration == 8},
    }[ended_by]
    transport = Delayed(5, 4, who=["slow"], always=True)
    result = delayed_run(star_of_parabolas(), 4, transport, **ends)
    expected = {"convergence": "CONVERGED", "iterations": "MAX_ITERATIONS", "time": "TIME_LIMIT", "callback": "STOPPED"}
    assert result.status.name == expected[ended_by]
    assert is_behind(result) and len(result.history) == result.iterations
    assert ended_by != "iterations" or result.iterations == ends["max_iterations"]
    if ended_by == "convergence":
        assert transport.ages[-len(NAMES) :] == [0] * len(NAMES) and max(transport.ages) > 0


# -------------------------------------------------------------- threads


class Watched(Parabola):
    """Counts its answers, knows whether it is at work, and can fail or wait to be interrupted at its third."""

    def __init__(self, *parabola: object, error: BaseException | None = None) -> None:
        super().__init__(*parabola)
        self.error, self.given, self.at_work, self.read_at_work = error, 0, False, False

    def solution(self) -> np.ndarray:
        self.read_at_work |= self.at_work
        return super().solution()

    def answer(self, question: admm.Question) -> admm.Answer:
        self.given, self.at_work = self.given + 1, True
        try:
            time.sleep(SLOW_SECONDS)
            if self.error is not None and self.given == 3:
                raise self.error
            return super().answer(question)
        finally:
            self.at_work = False


def threaded(slow: Watched, **changes: object) -> admm.Result:
    problem = star_of_parabolas()
    agents = {name: make() for name, make in problem.agents.items()} | {"slow": slow}
    chosen = {**problem.settings, "penalty": "classical", "staleness": 5, **changes}
    return admm.solve(agents, problem.couplings, admm.Settings(**chosen), admm.InProcessTransport(threads=3))


def test_on_threads_the_others_go_on_without_the_slow_one() -> None:
    slow = Watched(2.0, [3.0])
    result = threaded(slow, max_iterations=60, **{"penalty": "classical:0.01"})
    assert slow.given <= result.iterations // 2 and is_behind(result)
    assert threaded(Watched(2.0, [3.0])).boundary["slow-hub"]["p_mw"].upper == pytest.approx(1.5, abs=1e-3)


def test_an_error_of_a_late_agent_ends_the_run_as_itself() -> None:
    slow = Watched(2.0, [3.0], error=admm.SolverError("slow: stuck"))
    with pytest.raises(admm.SolverError, match="slow: stuck"):
        threaded(slow, penalty="classical:0.01")
    assert not slow.at_work and slow.given == 3


def test_an_interrupt_keeps_what_is_there_and_no_agent_goes_on() -> None:
    slow, interrupts = Watched(2.0, [3.0]), itertools.count(1)

    def interrupt(progress: admm.Progress) -> None:
        if next(interrupts) == 4:
            raise KeyboardInterrupt

    result = threaded(slow, penalty="classical:0.01", callback=interrupt)
    assert result.status is admm.Status.INTERRUPTED and result.iterations == 4
    assert not slow.at_work and not slow.read_at_work


# -------------------------------------------------------------- over MPI


def test_over_mpi_slow_agents_lag_and_the_optimum_is_the_same(mpirun) -> None:
    """Also with the operator on the slow agent's rank; a late agent's error ends the run, and the next one works."""
    done = mpirun(3, MPI_PROGRAM, "late")
    assert done.returncode == 0, done.stderr
    (found,) = [json.loads(line.removeprefix(MARK))["found"] for line in done.stdout.splitlines() if MARK in line]
    for apart in ("operator drives", "operator behind the slow agent"):
        status, objective, iterations, given = found[apart]
        assert status == "CONVERGED" and objective == pytest.approx(star().objective, rel=SOLVER)
        assert given < iterations if apart == "operator drives" else given <= iterations
    assert found["error"] == ["SolverError", "slow: stuck"]


def test_over_mpi_an_agent_that_hangs_ends_the_run_within_the_deadline(mpirun) -> None:
    done = mpirun(3, MPI_PROGRAM, "late_hang")
    assert done.returncode == 75, done.stderr
    assert "rank 0: rank 1 was not heard of with the answer of agent 'a' for 1.5 s" in done.stderr


def test_over_mpi_an_interrupt_ends_a_run_with_a_late_agent(mpirun_start) -> None:
    with mpirun_start(3, MPI_PROGRAM, "late_interrupt") as job:
        said = [json.loads(job.stdout.readline().removeprefix(MARK))["found"] for _ in range(4)]
        for process in said:  # of three ranks, and None when the run is well under way
            if process is not None:
                os.kill(process, signal.SIGINT)
        out, errors = job.communicate(timeout=GIVE_UP_SECONDS)
    assert job.returncode == 0, errors
    last = [json.loads(line.removeprefix(MARK)) for line in out.splitlines() if line.startswith(MARK)]
    assert {r["rank"]: r["found"] for r in last} == {0: ["INTERRUPTED", True], 1: None, 2: None}


# -------------------------------------------------------------- patience


def test_patience_waits_for_those_needed_and_enough_and_as_long_again_thrice() -> None:
    clock = iter([0.0, 1.0, 3.5, 4.0])
    with patch("admm.stale.time.perf_counter", lambda: next(clock)):
        patience = Patience(needed=["old"], punctual=["a", "b", "c"], least=2)
        assert not patience.over(["a", "b"])  # "old" is needed
        assert not patience.over(["old"])  # one is too few
        assert not patience.over(["old", "a"])  # at 1 s: until 4 s
        assert not patience.over(["old", "a", "b"])  # at 3.5 s
        assert patience.over(["old", "a", "b"])  # at 4 s
        assert patience.over(["old", "a", "b", "c"])


# -------------------------------------------------------------- the command line


def test_operators_live_on_the_driving_rank_where_agents_may_be_late_or_lost() -> None:
    """Otherwise one would wait for what a slow agent on its rank has not answered yet, or be lost with its rank."""
    case = load_case(CASE)
    for ranks in range(2, 6):
        at = SimpleNamespace(rank=0, ranks=ranks)
        assert "dso" in owned_agents(case, at, admm.Settings(staleness=1))
        assert "dso" in owned_agents(case, at, admm.Settings(on_lost_agent="freeze"))
        assert ("dso" in owned_agents(case, at, admm.Settings())) is False


def test_the_option_reaches_the_settings() -> None:
    parser = build_parser()
    assert settings_of(parser.parse_args(["run", CASE, "--staleness", "2"])).staleness == 2
    for command in ("run", "market"):
        assert settings_of(parser.parse_args([command, CASE])).staleness == 0


# -------------------------------------------------------------- input


@pytest.mark.parametrize("staleness", [-1, 1.5, True, "2"])
def test_staleness_is_a_whole_number(staleness: object) -> None:
    with pytest.raises(admm.InputError, match="staleness is .*, expected a whole number of at least 0"):
        admm.Settings(staleness=staleness)


@pytest.mark.parametrize("scheme", ["certified", "memory"])
def test_schemes_that_prove_want_all_answers(scheme: str, capsys) -> None:
    with pytest.raises(admm.InputError, match=f"expected 0 with the scheme '{scheme}'"):
        admm.Settings(scheme=scheme, staleness=1)
    ended = tieline(capsys, "run", CASE, "--scheme", scheme, "--staleness", "1")
    assert ended.code == 2 and len(ended.errors.splitlines()) == 1 and "staleness is 1" in ended.errors


def test_staleness_and_freezing_exclude_each_other(capsys) -> None:
    with pytest.raises(admm.InputError, match="staleness is 2, expected 0 with on_lost_agent 'freeze'"):
        admm.Settings(staleness=2, on_lost_agent="freeze")
    ended = tieline(capsys, "run", CASE, "--on-lost-agent", "freeze", "--staleness", "1")
    assert ended.code == 2 and len(ended.errors.splitlines()) == 1 and "exclude each other" in ended.errors
